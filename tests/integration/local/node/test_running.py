"""What a pod finds when it runs, and what it is told of the node's own world."""

import json
from typing import Any

SERVER = """
import http.server, os
ready = os.path.join(os.environ["STATE"], "ready")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists(ready) else 503)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer((os.environ["POD_IP"], 8080), Handler).serve_forever()
"""
POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def environment(pods: Any, name: str) -> dict[str, str]:
    """What the pod printed as its environment."""
    pods.until_phase(name, "Succeeded")
    found: dict[str, str] = json.loads(pods.kubectl("logs", name))
    return found


def condition(pod: dict[str, Any], kind: str) -> str:
    """The status of a condition."""
    return next((c["status"] for c in pod["status"].get("conditions") or [] if c["type"] == kind), "")


def test_the_environment_is_the_pod_s_and_nothing_of_the_node_s(pods: Any) -> None:
    pods.kubectl("create", "secret", "generic", "keys", "--from-literal=token=s3cret", "--from-literal=other=1")
    pods.kubectl("create", "configmap", "settings", "--from-literal=colour=blue")
    env = [
        {"name": "PLAIN", "value": "a$(TOKEN)b"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "AFTER", "value": "a$(TOKEN)b"},
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "none", "optional": True}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        POD_IP,
    ]
    sources = [{"secretRef": {"name": "keys"}, "prefix": "KEYS_"}]
    name = pods.run(ENVIRONMENT, image="python:dev", env=env, envFrom=sources)
    found = environment(pods, name)
    pod = pods.get(name)
    expected = {"PLAIN": "a$(TOKEN)b", "TOKEN": "s3cret", "AFTER": "as3cretb", "COLOUR": "blue", "NAME": name}
    expected |= {"NODE": pod["spec"]["nodeName"], "POD_IP": pod["status"]["podIP"]}
    expected |= {"KEYS_token": "s3cret", "KEYS_other": "1"}
    own = {"PATH", "HOME", "LANG", "PYTHONUNBUFFERED", "PIPECAT_LOCAL_CONTAINER", "LC_CTYPE"}
    assert {key: value for key, value in found.items() if key not in own} == expected


def test_a_secret_volume_is_read_by_the_path_in_the_environment(pods: Any) -> None:
    pods.kubectl("create", "secret", "generic", "session", '--from-literal=body={"a": 1}', "--from-literal=token=x")
    volume = {"name": "session", "secret": {"secretName": "session", "items": [{"key": "body", "path": "body.json"}]}}
    name = pods.run(
        'cat "$BODY"; ls "$0"',
        "/var/run/pipecat",
        env=[{"name": "BODY", "value": "/var/run/pipecat/body.json"}],
        volumeMounts=[{"name": "session", "mountPath": "/var/run/pipecat", "readOnly": True}],
        spec={"volumes": [volume]},
    )
    pods.until_phase(name, "Succeeded")
    assert pods.kubectl("logs", name) == '{"a": 1}body.json\n'


def test_readiness_follows_the_probe_there_and_back(pods: Any, shared_node: Any) -> None:
    probe = {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    name = pods.run(
        SERVER,
        image="python:dev",
        env=[POD_IP, {"name": "STATE", "value": "/state"}],
        readinessProbe=probe,
        volumeMounts=[{"name": "state", "mountPath": "/state"}],
        spec={"volumes": [{"name": "state", "emptyDir": {}}]},
    )
    pod = pods.until_phase(name, "Running")
    assert (condition(pod, "Ready"), condition(pod, "Initialized")) == ("False", "True")
    pods.until_event(name, "Unhealthy", "HTTP probe failed with statuscode: 503")
    ready = shared_node.folder / "pods" / pod["metadata"]["uid"] / "volumes" / "state" / "ready"
    ready.touch()
    pod = pods.until(name, lambda pod: condition(pod, "Ready") == "True")
    assert pod["status"]["containerStatuses"][0]["ready"]
    ready.unlink()
    pods.until(name, lambda pod: condition(pod, "Ready") == "False")


def test_the_same_event_again_is_counted(pods: Any) -> None:
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    name = pods.run("exec sleep 60", readinessProbe=probe)
    pods.wait_until("a second failure", lambda: pods.until_event(name, "Unhealthy")["count"] > 1)
    (event,) = [event for event in pods.events(name) if event["reason"] == "Unhealthy"]
    address = pods.get(name)["status"]["podIP"]
    assert event["message"] == f"Readiness probe failed: dial tcp {address}:8080: connect: connection refused"


def test_two_pods_listen_on_the_same_port_each_on_its_own_address(pods: Any) -> None:
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    env = [POD_IP, {"name": "STATE", "value": "/"}]
    names = [pods.run(SERVER, image="python:dev", env=env, readinessProbe=probe) for _ in range(2)]
    found = [pods.until(name, lambda pod: condition(pod, "Ready") == "True") for name in names]
    first, second = (pod["status"]["podIP"] for pod in found)
    assert first != second


def test_a_failing_liveness_probe_ends_the_container(pods: Any) -> None:
    probe = {"exec": {"command": ["sh", "-c", "echo not well; exit 1"]}, "periodSeconds": 1, "failureThreshold": 2}
    name = pods.run("exec sleep 60", livenessProbe=probe)
    assert pods.until_ended(name)["exitCode"] == 143
    pods.until_event(name, "Unhealthy", "Liveness probe failed: not well")
    pods.until_event(name, "Killing", "Container bot failed liveness probe")


def test_a_container_has_started_once_its_startup_probe_says_so(pods: Any) -> None:
    probe = {"exec": {"command": ["test", "-e", "/state/up"]}, "periodSeconds": 1, "failureThreshold": 30}
    name = pods.run(
        'sleep 2; touch "$0/up"; exec sleep 60',
        "/state",
        startupProbe={**probe, "exec": {"command": ["sh", "-c", 'test -e "$STATE/up"']}},
        env=[{"name": "STATE", "value": "/state"}],
        volumeMounts=[{"name": "state", "mountPath": "/state"}],
        spec={"volumes": [{"name": "state", "emptyDir": {}}]},
    )
    pod = pods.until_phase(name, "Running")
    assert pod["status"]["containerStatuses"][0]["started"] is False
    pod = pods.until(name, lambda pod: pod["status"]["containerStatuses"][0]["started"])
    assert condition(pods.until(name, lambda pod: condition(pod, "Ready") == "True"), "ContainersReady") == "True"


def test_a_missing_secret_is_waited_for(pods: Any) -> None:
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "late", "key": "token"}}}]
    name = pods.run('test "$TOKEN" = here', env=env)

    def waiting(pod: dict[str, Any]) -> dict[str, Any]:
        statuses = pod["status"].get("containerStatuses") or [{}]
        found: dict[str, Any] = statuses[0].get("state", {}).get("waiting") or {}
        return found if found.get("reason") != "ContainerCreating" else {}

    pod = pods.until(name, waiting)
    assert waiting(pod) == {"reason": "CreateContainerConfigError", "message": 'secret "late" not found'}
    assert pod["status"]["phase"] == "Pending"
    pods.until_event(name, "Failed", 'Error: secret "late" not found')
    pods.kubectl("create", "secret", "generic", "late", "--from-literal=token=here")
    assert pods.until_ended(name)["exitCode"] == 0


def test_a_missing_secret_volume_is_waited_for(pods: Any) -> None:
    name = pods.run(
        'cat "$0"',
        "/late/token",
        volumeMounts=[{"name": "late", "mountPath": "/late"}],
        spec={"volumes": [{"name": "late", "secret": {"secretName": "late"}}]},
    )
    pods.until_event(name, "FailedMount", 'MountVolume.SetUp failed for volume "late" : secret "late" not found')
    pods.kubectl("create", "secret", "generic", "late", "--from-literal=token=here")
    pods.until_phase(name, "Succeeded")
    assert pods.kubectl("logs", name) == "here"


def test_an_unknown_image_is_err_image_pull_then_image_pull_back_off(pods: Any) -> None:
    name = pods.run("exit 0", image="nowhere:1")

    def reason(pod: dict[str, Any]) -> str:
        statuses = pod["status"].get("containerStatuses") or [{}]
        return str(statuses[0].get("state", {}).get("waiting", {}).get("reason"))

    pods.until(name, lambda pod: reason(pod) == "ErrImagePull")
    pod = pods.until(name, lambda pod: reason(pod) == "ImagePullBackOff")
    message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert message.startswith('Back-off pulling image "nowhere:1": ErrImagePull: ')
    pods.until_event(name, "Failed", 'Failed to pull image "nowhere:1"')
    pods.until_event(name, "BackOff", 'Back-off pulling image "nowhere:1"')


def test_a_pod_that_cannot_be_run_here_is_refused_with_a_reason(pods: Any) -> None:
    name = pods.run("exit 0", lifecycle={"preStop": {"exec": {"command": ["true"]}}})
    pod = pods.until_phase(name, "Failed")
    assert pod["status"]["reason"] == "NotSupported"
    assert "lifecycle of container bot" in pod["status"]["message"]
    pods.until_event(name, "NotSupported", "lifecycle of container bot")


def test_a_life_tells_events_as_kubelet(pods: Any) -> None:
    name = pods.run("exit 0")
    pods.until_ended(name)
    pods.until_event(name, "Started")
    told = [(event["reason"], event["source"].get("component")) for event in pods.events(name)]
    assert [reason for reason, component in told if component == "kubelet"] == ["Pulled", "Created", "Started"]


def test_logs_can_be_followed_and_cut(pods: Any) -> None:
    name = pods.run("seq 5; sleep 1; echo end")
    pods.until_phase(name, "Running")
    assert pods.kubectl("logs", "--follow", name) == "1\n2\n3\n4\n5\nend\n"
    assert pods.kubectl("logs", "--tail=2", name) == "5\nend\n"


def test_a_life_costs_as_many_status_writes_as_kubelet_s(pods: Any, cluster: Any) -> None:
    name = pods.run("exec sleep 60", readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1})
    pods.until(name, lambda pod: condition(pod, "Ready") == "True")
    pods.kubectl("delete", "pod", name, "--timeout=30s")
    mine = [event for event in cluster.audited(pods.namespace) if event["objectRef"].get("name") == name]
    written = [e for e in mine if e["verb"] == "patch" and e["objectRef"].get("subresource") == "status"]
    # Pending, Running, Ready, terminated; each accepted at once.
    assert [e["responseStatus"]["code"] for e in written] == [200] * 4
