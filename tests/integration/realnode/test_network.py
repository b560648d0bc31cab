"""Services, names, and who reaches whom."""

import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    pods.run("client", f"wget -q -T 5 -O - http://{name.format(namespace=pods.namespace)}")
    pods.wait_phase("client", "Succeeded")
    assert pods.logs("client") == "served\n"


def test_a_pod_reaches_itself_by_its_service(pods: Pods, service: dict[str, Any]) -> None:
    url = f"http://{service['spec']['clusterIP']}"
    assert pods.kubectl("exec", "server", "--", "wget", "-q", "-T", "5", "-O", "-", url) == "served\n"


def test_pods_and_services_can_be_reached_from_here(pods: Pods, service: dict[str, Any]) -> None:
    for address in (pods.get("server")["status"]["podIP"] + ":8080", service["spec"]["clusterIP"]):
        with urllib.request.urlopen(f"http://{address}", timeout=5) as answer:
            assert answer.read() == b"served\n"


def test_a_pod_reaches_the_api_server_as_its_service_account(pods: Pods) -> None:
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    header = f"Authorization: Bearer $(cat {account}/token)"
    url = f"https://kubernetes.default.svc/api/v1/namespaces/{pods.namespace}/pods"
    pods.run(
        "asking",
        f'wget -T 5 -O - --no-check-certificate --header "{header}" {url} 2>&1',
    )
    pods.wait_phase("asking", "Failed")
    assert "403 Forbidden" in pods.logs("asking")


def test_a_name_outside_of_the_cluster_is_known_not_to_exist(pods: Pods) -> None:
    pods.run("asking", "nslookup api.example.org 2>&1")
    pods.wait_phase("asking", "Failed")
    assert "NXDOMAIN" in pods.logs("asking")


def test_a_pod_reaches_what_listens_on_the_machines_end_and_nothing_beyond(
    pods: Pods, node: RealNode, machines_end: str
) -> None:
    pods.run("client", f"wget -q -T 5 -O - {machines_end}; wget -T 5 -O - http://198.51.100.1 2>&1")
    pods.wait_phase("client", "Failed")
    here, beyond = pods.logs("client").split("\n", 1)
    assert here == "here"
    assert "unreachable" in beyond.lower()


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
