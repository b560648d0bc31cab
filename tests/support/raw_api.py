"""The API server by plain HTTP: bytes in, whatever it says out. No client stands between that would tidy them."""

import http.client
import json
import ssl
import sys
import urllib.parse
from typing import Any

from pipecat_local.controlplane import Cluster
from pipecat_operator.kube import bear_deep_json

AGENT = "raw-api-of-the-tests"
"""Its User-Agent: the audit log tells its requests from the operator's."""


class RawApi:
    """One connection, as the admin of that control plane, or as whose token it is."""

    def __init__(self, cluster: Cluster, token: str | None = None) -> None:
        config = json.loads(cluster.kubeconfig.read_text())
        server = urllib.parse.urlsplit(config["clusters"][0]["cluster"]["server"])
        assert server.hostname
        context = ssl.create_default_context(cafile=str(cluster.folder / "pki" / "ca.crt"))
        self._http = http.client.HTTPSConnection(server.hostname, server.port, context=context, timeout=30)
        self._token = token or config["users"][0]["user"]["token"]

    def __call__(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer. ``body``: bytes as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type, "User-Agent": AGENT}
        try:
            # Else every unknown field is a header of the answer: http.client takes a hundred.
            query = "" if method in ("GET", "DELETE") else "?fieldValidation=Ignore"
            self._http.request(method, path + query, raw, headers)
            with self._http.getresponse() as response:
                text = response.read()
                status = response.status
        except (http.client.HTTPException, OSError):
            # The server may hang up in the middle of what it refuses: the next call connects anew.
            self._http.close()
            raise
        return status, read_json(text) if text.startswith(b"{") else {"message": text.decode(errors="replace")}

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def read_json(text: bytes) -> dict[str, Any]:
    """However deep it is. Hypothesis wants to keep its own limit while it runs a test."""
    before = sys.getrecursionlimit()
    bear_deep_json()
    try:
        answer: dict[str, Any] = json.loads(text)
    finally:
        sys.setrecursionlimit(before)
    return answer
