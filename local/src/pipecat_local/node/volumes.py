"""A pod's files: what they are made from, and writing them."""

from collections.abc import Callable, Iterable

from pipecat_local.node import spec
from pipecat_local.node.spec import Folders, Host, Sources
from pipecat_operator.kube import CONFIGMAPS, SECRETS, Kube, NotFound, Object, Resource


async def sources(kube: Kube, pod: Object) -> Sources:
    """The Secrets and ConfigMaps that the pod refers to, as far as they exist."""
    namespace = pod["metadata"]["namespace"]
    secrets, config_maps = spec.references(pod)
    return Sources(
        await _read(kube, SECRETS, namespace, secrets, spec.secret_data),
        await _read(kube, CONFIGMAPS, namespace, config_maps, spec.config_map_data),
    )


def write(pod: Object, folders: Folders, found: Sources, host: Host, pod_ip: str) -> None:
    """Every folder and file that the pod's containers need.

    Raises:
        MountError: a Secret, ConfigMap or key is missing.
        OSError: the disk.
    """
    folders.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for volume in pod["spec"].get("volumes") or []:
        files = spec.volume_files(pod, volume, found, host, pod_ip)
        folder = folders.volume(volume["name"])
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)
    for container in pod["spec"]["containers"]:
        folders.home(container["name"]).mkdir(parents=True, exist_ok=True)
        folders.termination_log(container["name"]).touch()
        for mount in container.get("volumeMounts") or []:
            path = folders.volume(mount["name"]) / (mount.get("subPath") or "")
            if not path.exists():
                path.mkdir(parents=True)


async def _read(
    kube: Kube,
    resource: Resource,
    namespace: str,
    names: Iterable[str],
    values: Callable[[Object], dict[str, bytes]],
) -> dict[str, dict[str, bytes]]:
    found = {}
    for name in sorted(names):
        try:
            found[name] = values(await kube.get(resource, namespace, name))
        except NotFound:
            continue
    return found
