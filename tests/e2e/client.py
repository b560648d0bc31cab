"""A client of the gateway as any other in the cluster: a pod with API keys, that calls the Service.

Not through the API server, whose proxy takes the Authorization header for itself, and not by kubectl port-forward,
which ends with the pod of the gateway that it chose: each call is a connection of its own, to any of its pods.
"""

import json
import subprocess
from typing import Any, Final

from pipecat_gateway.keys.ring import Kind
from pipecat_local.processes import wait_until
from support.installed import GATEWAY, MANIFESTS, STANDINS, SYSTEM, TIMEOUT, Installed

PUBLIC: Final = "public"
PRIVATE: Final = "private"
FORGED: Final = "forged"
"""What the public key would be, were it private."""
HOST: Final = f"{GATEWAY}.{SYSTEM}.svc"
KNOWN_S: Final = 150
"""The kubelet brings a change of a Secret within about a minute."""
EXEC_S: Final = 60
# An API key is read where it is needed: it is in no argument, and on no way of the call's but the header.
CALL: Final = """
import http.client, json, sys
from pathlib import Path

asked = json.load(sys.stdin)
headers = {"Content-Type": "application/json"}
if asked["key"]:
    headers["Authorization"] = "Bearer " + Path("/etc/client-keys", asked["key"]).read_text()
connection = http.client.HTTPConnection(asked["host"], timeout=50)
connection.request(asked["method"], asked["path"], asked["body"], headers)
answer = connection.getresponse()
print(json.dumps([answer.status, json.loads(answer.read())]))
"""

Answer = tuple[int, dict[str, Any]]


class Client:
    """Has a key of each kind, named ``PUBLIC`` and ``PRIVATE``, and one that is ``FORGED``."""

    def __init__(self, installed: Installed) -> None:
        self._installed = installed

    def set_up(self, tokens: dict[str, str]) -> None:
        """Its pod, with those API keys, each by its name; until the gateway knows them, without a restart."""
        self._installed.secret(STANDINS, "client-keys", **tokens)
        self._installed.kubectl("apply", "-f", MANIFESTS / "client.yaml", namespace=STANDINS)
        self._installed.kubectl("wait", "pod/client", "--for=condition=Ready", TIMEOUT, namespace=STANDINS)
        wait_until("the gateway to know its keys", self._is_known, KNOWN_S, 1)

    def call(self, key: str | None, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Status and JSON. ``key``: the name of one, or none at all.

        Raises:
            subprocess.CalledProcessError: there was no answer.
        """
        content = None if body is None else json.dumps(body)
        asked = {"host": HOST, "key": key, "method": method, "path": path, "body": content}
        execute = ("exec", "--stdin", "client", "--", "python", "-c", CALL)
        told = self._installed.kubectl(*execute, namespace=STANDINS, stdin=json.dumps(asked))
        status, answer = json.loads(told)
        return status, answer

    def start(self, bot: str) -> str:
        """The UID of a new session."""
        status, answer = self.call(PUBLIC, "POST", f"/v1/public/{bot}/start", {"createDailyRoom": True})
        assert status == 200, answer
        return str(answer["sessionId"])

    def _is_known(self) -> bool:
        return all(self.call(key, "GET", "/v1/organizations")[0] != 401 for key in (PUBLIC, PRIVATE))


def id_of(kind: Kind) -> str:
    """Of the API key of that kind."""
    return f"e2e-{kind}"


def new_token(installed: Installed, kind: Kind) -> str:
    """Of an API key, made as docs/gateway.md says.

    Raises:
        subprocess.CalledProcessError: it was not made.
    """
    cluster = installed.cluster
    made = subprocess.run(
        [
            *(cluster.kubectl_binary, "--kubeconfig", cluster.kubeconfig, "--namespace", SYSTEM),
            *("exec", f"deployment/{GATEWAY}", "--"),
            *("python", "-m", "pipecat_gateway.newkey", "--id", id_of(kind), f"--{kind}"),
        ],
        capture_output=True,
        text=True,
        timeout=EXEC_S,
        check=True,
    )
    manager = ("--server-side", "--field-manager", f"key-{id_of(kind)}")
    installed.kubectl("apply", *manager, "-f", "-", namespace=SYSTEM, stdin=made.stdout)
    return made.stderr.strip()
