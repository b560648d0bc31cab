"""Real etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback, RBAC on."""

import asyncio
import base64
import json
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from pipecat_local import certificates
from pipecat_local.assets import CONTROL_PLANE, Say, find, say_to_stderr
from pipecat_local.processes import Component, ComponentFailed, until

START_S: Final = 60.0
ATTEMPTS: Final = 3
"""A free port may be taken by another between asking for it and listening on it."""

AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata"},
    ],
}
TOKENS: Final = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}


class ControlPlane:
    """One control plane in one folder."""

    def __init__(self, folder: Path, say: Say = say_to_stderr) -> None:
        self.folder = folder
        self.kubeconfig = folder / "admin.kubeconfig"
        self.audit_log = folder / "audit.log"
        self.kubectl = Path("kubectl")
        self._say = say
        self._tokens = {user: secrets.token_urlsafe(24) for user in TOKENS}
        self._components: list[Component] = []
        self.url = ""
        self._ca = b""

    async def start(self) -> None:
        """Until the API server is ready and the default service account can be made.

        Raises:
            ComponentFailed: with the failing component's last log lines.
            MissingBinary: a binary can be had from nowhere.
        """
        binaries = await asyncio.to_thread(find, CONTROL_PLANE, self._say)
        self.kubectl = binaries["kubectl"]
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            try:
                await self._start(binaries)
                return
            except ComponentFailed as failed:
                await self.stop()
                if attempt == ATTEMPTS - 1 or "address already in use" not in str(failed):
                    raise

    async def stop(self) -> None:
        """In the reverse order."""
        for component in reversed(self._components):
            await component.stop()
        self._components.clear()

    def check(self) -> None:
        """Raises ComponentFailed when one has ended."""
        for component in self._components:
            component.check()

    async def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig that acts as that service account, for a day."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86400},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                self.url + path,
                json=request,
                ssl=ssl.create_default_context(cadata=self._ca.decode()),
                headers={"Authorization": f"Bearer {self._tokens['admin']}"},
            ) as response,
        ):
            if response.status >= 400:
                raise ComponentFailed(f"no token for {namespace}/{name}: {await response.text()}")
            token = (await response.json())["status"]["token"]
        return self._kubeconfig(f"{namespace}-{name}", token, namespace)

    async def _start(self, binaries: dict[str, Path]) -> None:
        pki = self.folder / "pki"
        pki.mkdir(exist_ok=True)
        ca = certificates.authority()
        self._ca = ca.pem()
        ca_file = pki / "ca.crt"
        ca_file.write_bytes(self._ca)
        cert, key = certificates.server(ca, pki, "kube-apiserver")
        public, private = certificates.service_account_keys(pki)
        etcd_client, etcd_peer, api = _free_ports(3)
        self.url = f"https://127.0.0.1:{api}"
        self.kubeconfig = self._kubeconfig("admin", self._tokens["admin"], "default")
        policy = self._file("audit-policy.yaml", yaml.safe_dump(AUDIT_POLICY))
        tokens = "\n".join(f"{self._tokens[user]},{user},{user},{group}" for user, group in TOKENS.items())

        await self._run(
            binaries["etcd"],
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{etcd_client}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd_client}",
            f"--listen-peer-urls=http://127.0.0.1:{etcd_peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{etcd_peer}",
            f"--initial-cluster=default=http://127.0.0.1:{etcd_peer}",
        )
        await self._run(
            binaries["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{etcd_client}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={api}",
            f"--tls-cert-file={cert}",
            f"--tls-private-key-file={key}",
            f"--token-auth-file={self._file('tokens.csv', tokens)}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
        )
        async with self._http(ca_file) as http:
            await self._until("kube-apiserver to be ready", _answers(http, f"{self.url}/readyz"))
            await self._run(
                binaries["kube-controller-manager"],
                f"--kubeconfig={self._kubeconfig_of('system:kube-controller-manager')}",
                f"--service-account-private-key-file={private}",
                f"--root-ca-file={ca_file}",
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
                "--node-monitor-grace-period=20s",
            )
            await self._run(
                binaries["kube-scheduler"],
                f"--kubeconfig={self._kubeconfig_of('system:kube-scheduler')}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
            )
            account = f"{self.url}/api/v1/namespaces/default/serviceaccounts/default"
            await self._until("the default service account", _answers(http, account))

    def _http(self, ca_file: Path) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca_file))
        headers = {"Authorization": f"Bearer {self._tokens['admin']}"}
        return aiohttp.ClientSession(connector=connector, headers=headers)

    async def _run(self, binary: Path, *arguments: str) -> None:
        component = Component(binary.name, self.folder / f"{binary.name}.log")
        self._components.append(component)
        await component.start([binary, *arguments])

    async def _until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        async def checked() -> bool:
            self.check()
            return await condition()

        try:
            await until(what, checked, START_S)
        except TimeoutError as error:
            raise ComponentFailed(self._components[-1].explain(str(error))) from error

    def _file(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def _kubeconfig_of(self, user: str) -> Path:
        return self._kubeconfig(user.removeprefix("system:"), self._tokens[user], "default")

    def _kubeconfig(self, name: str, token: str, namespace: str) -> Path:
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user", "namespace": namespace}}],
            "clusters": [
                {
                    "name": "local",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority-data": base64.b64encode(self._ca).decode(),
                    },
                }
            ],
            "users": [{"name": "user", "user": {"token": token}}],
        }
        return self._file(f"{name}.kubeconfig", json.dumps(config))


def _answers(http: aiohttp.ClientSession, url: str) -> Callable[[], Awaitable[bool]]:
    async def asked() -> bool:
        try:
            async with http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return asked


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
