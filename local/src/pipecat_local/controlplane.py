"""Real etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback, RBAC on.

``python -m pipecat_local.controlplane --directory D`` runs one until SIGTERM.
"""

import argparse
import asyncio
import base64
import json
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

import aiohttp
import kopf
import yaml

from pipecat_local import certificates
from pipecat_local.assets import CONTROL_PLANE, MissingBinary, Say, find, say_to_stderr
from pipecat_local.processes import Component, ComponentFailed, until
from pipecat_operator.connections import Connector

START_S: Final = 60.0
STOP_S: Final = 2.0
ATTEMPTS: Final = 3
"""A free port may be taken by another between asking for it and listening on it."""

AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        # All that is ever told of a session is on record, for tests to look for secrets in it. Not what its maker
        # said: a body may hold secrets, and be of any size.
        {"level": "Metadata", "verbs": ["create"], "resources": [{"group": "pipecat.dev"}]},
        {
            "level": "Request",
            "resources": [
                {"group": "pipecat.dev"},
                {"group": "batch", "resources": ["jobs", "jobs/status"]},
                {"group": "", "resources": ["events", "pods", "pods/status"]},
                {"group": "events.k8s.io"},
            ],
        },
        {"level": "Metadata"},
    ],
}
AUDIT_LOG_MAX_MB: Final = 1_000_000
LOOPBACK: Final = "127.0.0.1"
SERVICES: Final = IPv4Network("10.96.0.0/16")
NODE_CHOICE: Final = "PodNodeSelector,PodTolerationRestriction"
"""They let a namespace choose its nodes: see Cluster.create_namespace."""
FOR_PRETENDED_NODES: Final = (
    "--authorization-mode=RBAC",
    f"--enable-admission-plugins={NODE_CHOICE}",
    # It may not write a loopback address into the endpoints of the Service `kubernetes`.
    "--endpoint-reconciler-type=none",
)
POOL: Final = "pipecat.dev/pool"
"""Key of the label and the taint of nodes that only namespaces of that pool use."""

GROUPS: Final = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}
"""The users of the token file, and the group of each."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a control plane with real nodes is: their kubelets and pods reach it."""

    address: str
    """Where the API server listens."""
    services: IPv4Network
    """The addresses of Services."""
    enter: tuple[str, ...]
    """Put before each command: runs it in the network namespace that has the address."""
    users: Mapping[str, str]
    """More users with a token, kubelets among them, and the group of each."""


class Cluster:
    """A running control plane, seen from any process that knows its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "admin.kubeconfig"
        """Of a cluster admin."""
        self.audit_log = folder / "audit.log"
        """One JSON event a line for every write, by whomever."""
        self.kubectl_binary = folder / "kubectl"

    def audited(self, *about: str, since: int = 0) -> Iterator[dict[str, Any]]:
        """The audit events whose line has all those texts, from that byte of the log on."""
        wanted = [text.encode() for text in about]
        with self.audit_log.open("rb") as log:
            log.seek(since)
            for line in log:
                # One that is being written has no end yet.
                if line.endswith(b"\n") and all(text in line for text in wanted):
                    yield json.loads(line)

    def login(self) -> kopf.ConnectionInfo:
        """The admin's credentials, for pipecat_operator.kube.Kube."""
        config = json.loads(self.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        return kopf.ConnectionInfo(
            server=cluster["server"],
            ca_data=cluster["certificate-authority-data"],
            token=config["users"][0]["user"]["token"],
            default_namespace="default",
        )

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """What kubectl printed.

        Raises:
            subprocess.CalledProcessError: it failed; its ``stderr`` is a note of the exception.
        """
        command = [self.kubectl_binary, "--kubeconfig", kubeconfig or self.kubeconfig, *arguments]
        try:
            ran = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=True)
        except subprocess.CalledProcessError as error:
            error.add_note(str(error.stderr))
            raise
        return ran.stdout

    def install(self, *manifests: Path) -> None:
        """Apply files or folders; CRDs among them are established on return."""
        self.kubectl("apply", "--server-side", *(word for path in manifests for word in ("-f", path)))
        if "customresourcedefinition" in self.kubectl("get", "crd", "-o", "name"):
            self.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")

    def create_namespace(self, name: str, pool: str | None = None) -> None:
        """With its default service account; ``pool`` as namespace_manifest says."""
        made = namespace_manifest(name, pool)
        self.kubectl("create", "--filename", "-", stdin=json.dumps(made))
        self.kubectl("wait", "serviceaccount/default", "--for=create", "--namespace", name, "--timeout=30s")

    def kubeconfig_for_service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig that acts as that service account, for a day."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration=24h").strip()
        config = json.loads(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = namespace
        return _private_file(self.folder / f"{namespace}.{name}.kubeconfig", json.dumps(config))


def namespace_manifest(name: str, pool: str | None = None) -> dict[str, Any]:
    """A namespace. ``pool``: its pods run on the nodes of that pool and no others.

    A node of a pool has the label and the NoSchedule taint ``pipecat.dev/pool=<pool>``: so tests that share one
    cluster each have nodes of their own, and the pods don't know of it.
    """
    annotations = {}
    if pool:
        toleration = {"key": POOL, "operator": "Equal", "value": pool, "effect": "NoSchedule"}
        annotations = {
            "scheduler.alpha.kubernetes.io/node-selector": f"{POOL}={pool}",
            "scheduler.alpha.kubernetes.io/defaultTolerations": json.dumps([toleration]),
        }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}}


class ControlPlane(Cluster):
    """One control plane, its processes children of this one."""

    def __init__(
        self, folder: Path, manifests: Sequence[Path] = (), say: Say = say_to_stderr, site: Site | None = None
    ) -> None:
        """``manifests``: files or folders to apply before the controllers start. ``site``: it has real nodes.

        The garbage collector looks for new kinds every 30 s only: of those there when it starts it knows at once.
        """
        super().__init__(folder)
        self._manifests = manifests
        self._say = say
        self._site = site
        self._groups = {**GROUPS, **(site.users if site else {})}
        self._tokens = {user: secrets.token_urlsafe(24) for user in self._groups}
        self._components: dict[str, Component] = {}
        self._commands: dict[str, tuple[Path, *tuple[str, ...]]] = {}
        self._url = ""
        self._ca = b""
        self._etcd_url = ""

    async def start(self) -> None:
        """Until the API server answers and the controllers work.

        Raises:
            ComponentFailed: with the failing component's last log lines.
            MissingBinary: a binary can be had from nowhere.
        """
        binaries = await asyncio.to_thread(find, CONTROL_PLANE, self._say)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kubectl_binary.unlink(missing_ok=True)
        self.kubectl_binary.symlink_to(binaries["kubectl"])
        for attempt in range(ATTEMPTS):
            try:
                await self._start(binaries)
            except ComponentFailed as failed:
                await self.stop()
                if attempt == ATTEMPTS - 1 or "address already in use" not in str(failed):
                    raise
            except BaseException:
                await self.stop()
                raise
            else:
                return

    async def stop(self, grace_s: float = STOP_S) -> None:
        """All at once, and soon: nothing of it is kept."""
        await asyncio.gather(*(component.stop(grace_s=grace_s) for component in self._components.values()))
        self._components.clear()

    def check(self) -> None:
        """Raises ComponentFailed when one has ended that was not taken down."""
        for component in self._components.values():
            component.check()

    async def take_down(self, name: str) -> None:
        """Stop one component, named as its binary; what it stores is kept."""
        await self._components.pop(name).stop(grace_s=STOP_S)

    async def bring_up(self, name: str) -> None:
        """Start a component again that was taken down: same data, same port. Until the API server answers.

        Raises:
            ComponentFailed: with its last log lines.
        """
        await self._run(*self._commands[name])
        async with self._client() as http:
            await self._until("kube-apiserver to be ready", _answers(http, f"{self._url}/readyz"))

    async def compact(self) -> None:
        """Have etcd forget every revision but the latest, as the API server does every five minutes."""
        async with aiohttp.ClientSession(self._etcd_url) as http:
            async with http.post("/v3/kv/range", json={"key": _base64("/")}) as response:
                revision = (await response.json())["header"]["revision"]
            async with http.post("/v3/kv/compaction", json={"revision": revision, "physical": True}) as response:
                response.raise_for_status()

    async def forget(self, path: str) -> None:
        """Remove one object behind the API server's back, as a restored backup does. ``path``: below /registry."""
        async with (
            aiohttp.ClientSession(self._etcd_url) as http,
            http.post("/v3/kv/deleterange", json={"key": _base64(f"/registry/{path}")}) as response,
        ):
            deleted = (await response.json()).get("deleted")
        if deleted != "1":
            raise LookupError(f"etcd has no {path}")

    async def _start(self, binaries: dict[str, Path]) -> None:
        for remains in ("pki", "etcd"):
            shutil.rmtree(self.folder / remains, ignore_errors=True)
        for log in self.folder.glob("*.log"):
            log.unlink()
        pki = self.folder / "pki"
        pki.mkdir()
        ca = certificates.authority()
        self._ca = ca.pem()
        ca_file = pki / "ca.crt"
        ca_file.write_bytes(self._ca)
        address = self._site.address if self._site else LOOPBACK
        services = self._site.services if self._site else SERVICES
        cert, key = certificates.server(ca, pki, "kube-apiserver", (address, str(services[1])))
        public, private = certificates.service_account_keys(pki)
        etcd_client, etcd_peer, api = free_ports(3)
        self._etcd_url = f"http://127.0.0.1:{etcd_client}"
        self._url = f"https://{address}:{api}"
        for user in self._groups:
            self._kubeconfig(user)
        policy = _private_file(self.folder / "audit-policy.yaml", yaml.safe_dump(AUDIT_POLICY))
        tokens = "\n".join(f"{self._tokens[user]},{user},{user},{group}" for user, group in self._groups.items())
        token_file = _private_file(self.folder / "tokens.csv", tokens)

        await self._run(
            binaries["etcd"],
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{etcd_peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{etcd_peer}",
            f"--initial-cluster=default=http://127.0.0.1:{etcd_peer}",
        )
        await self._run(
            binaries["kube-apiserver"],
            f"--etcd-servers={self._etcd_url}",
            f"--bind-address={address}",
            f"--advertise-address={address}",
            f"--secure-port={api}",
            f"--tls-cert-file={cert}",
            f"--tls-private-key-file={key}",
            f"--token-auth-file={token_file}",
            f"--service-cluster-ip-range={services}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            # A count read from the log right after a call must hold that call.
            "--audit-log-mode=blocking",
            # In MB. At the default of 100 the log starts anew under whoever reads it.
            f"--audit-log-maxsize={AUDIT_LOG_MAX_MB}",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
            *(self._for_real_nodes(ca, pki, address) if self._site else FOR_PRETENDED_NODES),
        )
        async with self._client() as http:
            await self._until("kube-apiserver to be ready", _answers(http, f"{self._url}/readyz"))
            if self._manifests:
                await asyncio.to_thread(self.install, *self._manifests)
            # The default limits of 20 and 50 requests a second would throttle before anything of ours does.
            await self._run(
                binaries["kube-controller-manager"],
                f"--kubeconfig={self.kubeconfig_of('system:kube-controller-manager')}",
                f"--service-account-private-key-file={private}",
                f"--root-ca-file={ca_file}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
                "--node-monitor-grace-period=20s",
            )
            await self._run(
                binaries["kube-scheduler"],
                f"--kubeconfig={self.kubeconfig_of('system:kube-scheduler')}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
            )
            account = f"{self._url}/api/v1/namespaces/default/serviceaccounts/default"
            await self._until("the controllers to work", _answers(http, account))

    def _for_real_nodes(self, ca: certificates.Authority, pki: Path, address: str) -> list[str]:
        """Both ways between it and a kubelet: each checks the other's certificate."""
        certificates.server(ca, pki, "kubelet", (address,))
        cert, key = certificates.client(ca, pki, "kube-apiserver-kubelet-client")
        return [
            "--authorization-mode=Node,RBAC",
            f"--enable-admission-plugins={NODE_CHOICE},NodeRestriction",
            "--allow-privileged",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={cert}",
            f"--kubelet-client-key={key}",
        ]

    async def _run(self, binary: Path, *arguments: str) -> None:
        component = Component(binary.name, self.folder / f"{binary.name}.log")
        self._components[binary.name], self._commands[binary.name] = component, (binary, *arguments)
        await component.start([*(self._site.enter if self._site else ()), binary, *arguments])

    def _client(self) -> aiohttp.ClientSession:
        connector = Connector(ssl=ssl.create_default_context(cadata=self._ca.decode()))
        return aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {self._tokens['admin']}"})

    async def _until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        async def checked() -> bool:
            self.check()
            return await condition()

        try:
            await until(what, checked, START_S)
        except TimeoutError as error:
            raise ComponentFailed([*self._components.values()][-1].explain(str(error))) from error

    def kubeconfig_of(self, user: str) -> Path:
        """Of one of the users that have a token."""
        return self.folder / f"{user.removeprefix('system:').replace(':', '-')}.kubeconfig"

    def _kubeconfig(self, user: str) -> None:
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user", "namespace": "default"}}],
            "clusters": [
                {
                    "name": "local",
                    "cluster": {
                        "server": self._url,
                        "certificate-authority-data": base64.b64encode(self._ca).decode(),
                    },
                }
            ],
            "users": [{"name": "user", "user": {"token": self._tokens[user]}}],
        }
        # JSON is YAML, and easier for a program to change.
        _private_file(self.kubeconfig_of(user), json.dumps(config))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _private_file(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def _answers(http: aiohttp.ClientSession, url: str) -> Callable[[], Awaitable[bool]]:
    async def asked() -> bool:
        try:
            async with http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return asked


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


async def serve(folder: Path, manifests: Sequence[Path]) -> None:
    """Run a control plane, say when it is ready, and end with SIGTERM or with its first component."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    plane = ControlPlane(folder, manifests)
    starting = asyncio.create_task(plane.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return
        await starting
        sys.stdout.write(json.dumps({"ready": True, "kubeconfig": str(plane.kubeconfig)}) + "\n")
        sys.stdout.flush()
        while not stop.is_set():
            await asyncio.wait((stopping,), timeout=1)
            plane.check()
    finally:
        starting.cancel()
        await asyncio.wait((starting,))
        await plane.stop()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_local.controlplane", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="for its data, logs and kubeconfig")
    parser.add_argument("--install", type=Path, action="append", default=[], help="manifests to apply at start")
    given = parser.parse_args()
    try:
        asyncio.run(serve(given.directory.absolute(), given.install))
    except (ComponentFailed, MissingBinary) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
