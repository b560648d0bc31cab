"""The container runtime of a node, and the images that it has: no registry is ever asked."""

from pathlib import Path
from typing import Final

from pipecat_local.processes import Component, until
from pipecat_local.realnode import images
from pipecat_local.realnode.namespaces import Inside, Namespaces
from pipecat_local.realnode.packages import plugin_folder

SOCKET: Final = "/run/containerd/containerd.sock"
STATE: Final = "/var/lib/containerd"
PAUSE: Final = "pause:1.0.0"
START_S: Final = 30.0
LOAD_S: Final = 30.0

_CONFIG: Final = """
version = 2
root = "{state}"
state = "/run/containerd"

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Loading a profile would change the machine's kernel.
  disable_apparmor = true
  # To make it lower takes a right that containers like this machine's may lack.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


class Containerd:
    """One, in a node's namespaces."""

    def __init__(self, namespaces: Namespaces, folder: Path, cni: Path) -> None:
        self.component: Component = Inside("containerd", folder / "containerd.log")
        self._namespaces = namespaces
        self._folder = folder
        self._cni = cni

    async def start(self, pause: Path) -> None:
        """Until it answers and has the image of the pause container. ``pause``: the program.

        Raises:
            ComponentFailed: with its last log lines.
        """
        config = self._folder / "containerd.toml"
        config.write_text(
            _CONFIG.format(state=STATE, socket=SOCKET, pause=PAUSE, plugins=plugin_folder(), cni=self._cni)
        )
        await self.component.start([*self._namespaces.enter, "containerd", "--config", config])

        async def answers() -> bool:
            self.component.check()
            return (Path("/proc", str(self._namespaces.pid), "root") / SOCKET.lstrip("/")).is_socket()

        await until("containerd to listen", answers, START_S)
        archive = images.write_archive(self._folder / "pause.tar", PAUSE, {"pause": pause}, ["/pause"])
        await self.load(archive)

    async def load(self, archive: Path) -> None:
        """Import the images of an archive; on return pods can be made of them.

        Raises:
            ComponentFailed: with what ctr said.
        """
        await self._ctr("import", archive)

        async def managed() -> bool:
            """The part of containerd that kubelets talk to hears of an image later, and marks it."""
            _, *listed = (await self._ctr("list")).splitlines()
            return all("io.cri-containerd.image=managed" in line for line in listed)

        await until(f"containerd to have taken in {archive}", managed, LOAD_S)

    async def _ctr(self, *arguments: str | Path) -> str:
        return await self._namespaces.run("ctr", "--namespace", "k8s.io", "images", *arguments)
