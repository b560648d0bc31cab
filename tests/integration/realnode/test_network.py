"""Services, names, and who reaches whom."""

import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from pipecat_local.processes import wait_until
from pipecat_local.realnode.cluster import RealNode
from support.pods import Pods

SERVE = "mkdir /www; echo served > /www/index.html; httpd -f -p 8080 -h /www"
PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}


@pytest.fixture
def service(pods: Pods) -> dict[str, Any]:
    """One with a pod behind it, which is Ready."""
    pods.run("server", SERVE, PROBE, terminationGracePeriodSeconds=0)
    pods.kubectl("expose", "pod", "server", "--port=80", "--target-port=8080")
    pods.wait("server", "condition=Ready")
    made: dict[str, Any] = json.loads(pods.kubectl("get", "service", "server", "--output=json"))
    return made


@pytest.mark.parametrize("name", ["server", "server.{namespace}.svc.cluster.local", "$SERVER_SERVICE_HOST"])
@pytest.mark.usefixtures("service")
def test_a_pod_reaches_a_service(pods: Pods, name: str) -> None:
    # kube-proxy hears of a new Service a moment later.
    pods.run(
        "client", f"until fetch http://{name.format(namespace=pods.namespace)} > /got; do sleep 0.1; done; cat /got"
    )
    pods.wait_end("client")
    assert pods.logs("client") == "200 served\n"


def test_a_pod_reaches_itself_by_its_service(pods: Pods, service: dict[str, Any]) -> None:
    fetch = f"until fetch http://{service['spec']['clusterIP']} > /got; do sleep 0.1; done; cat /got"
    assert pods.kubectl("exec", "server", "--", "sh", "-c", fetch) == "200 served\n"


def test_pods_and_services_can_be_reached_from_here(pods: Pods, service: dict[str, Any]) -> None:
    for address in (pods.get("server")["status"]["podIP"] + ":8080", service["spec"]["clusterIP"]):
        assert (
            wait_until(f"an answer of {address}", lambda address=address: got(f"http://{address}"), 30) == b"served\n"
        )


def got(url: str) -> bytes:
    """Nothing as long as nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except URLError:
        return b""


def test_a_pod_reaches_the_api_server_as_its_service_account(pods: Pods) -> None:
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    pods.run("asking", f"fetch https://kubernetes.default.svc/api/v1/namespaces/{pods.namespace}/pods {token}")
    pods.wait_end("asking")
    assert f"system:serviceaccount:{pods.namespace}:default" in pods.logs("asking")
    assert pods.logs("asking").startswith("403 ")


def test_a_name_outside_of_the_cluster_is_known_not_to_exist(pods: Pods) -> None:
    pods.run("asking", "nslookup api.example.org 2>&1")
    pods.wait_end("asking")
    assert "NXDOMAIN" in pods.logs("asking")


def test_a_pod_reaches_what_listens_on_the_machines_end_and_nothing_beyond(
    pods: Pods, node: RealNode, machines_end: str
) -> None:
    pods.run("client", f"fetch {machines_end}; fetch http://198.51.100.1")
    pods.wait_end("client")
    here, beyond = pods.logs("client").split("\n", 1)
    assert here == "200 here"
    assert "unreachable" in beyond


@pytest.fixture
def machines_end(node: RealNode, tmp_path: Path) -> Iterator[str]:
    """The address of a server there."""

    class Here(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here\n")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((node.host_address, 0), Here) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{node.host_address}:{server.server_port}"
        server.shutdown()
        thread.join()
