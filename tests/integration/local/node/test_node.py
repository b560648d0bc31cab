"""The node itself: how it is seen, and what its end and its return mean for pods."""

import json
from typing import Any


def test_it_registers_as_a_ready_node_of_the_size_asked_for(shared_node: Any, cluster: Any) -> None:
    node = json.loads(cluster.kubectl("get", "node", shared_node.name, "-o", "json"))
    status = node["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    assert {key: status["allocatable"][key] for key in ("cpu", "memory", "pods")} == {
        "cpu": "4",
        "memory": "8Gi",
        "pods": "110",
    }
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == shared_node.name
    lease = json.loads(cluster.kubectl("get", "lease", shared_node.name, "-n", "kube-node-lease", "-o", "json"))
    assert lease["spec"]["holderIdentity"] == shared_node.name


def test_pods_lost_with_a_killed_node_are_reported_when_it_returns(own_node: Any, own_pods: Any) -> None:
    job, pod = own_pods.run_job("sleep 64 & setsid sleep 65 & exec sleep 66")
    done = own_pods.run("exit 0")
    own_pods.until_phase(done, "Succeeded")
    own_pods.until_phase(pod, "Running")
    own_node.kill()
    own_node.start()
    failed = own_pods.until_job_failed(job)
    assert "exit code 137" in failed["message"]
    ended = own_pods.until_ended(pod)
    assert (ended["reason"], ended["exitCode"]) == ("ContainerStatusUnknown", 137)
    assert ended["message"] == "The container could not be located when the pod was terminated"
    assert own_pods.until_ended(done)["exitCode"] == 0
    assert own_node.processes() == []
    assert own_pods.until_ended(own_pods.run("exit 0"))["exitCode"] == 0


def test_a_node_that_is_stopped_ends_its_pods_and_says_why(own_node: Any, own_pods: Any) -> None:
    job, pod = own_pods.run_job("exec sleep 67")
    own_pods.until_phase(pod, "Running")
    assert own_node.stop() == 0
    assert own_node.processes() == []
    found = own_pods.get(pod)
    assert (found["status"]["phase"], found["status"]["reason"]) == ("Failed", "Terminated")
    assert "DisruptionTarget" in own_pods.until_job_failed(job)["message"]


def test_secrets_leave_no_file_behind(own_node: Any, own_pods: Any) -> None:
    own_pods.kubectl("create", "secret", "generic", "keys", "--from-literal=token=very-s3cret")
    name = own_pods.run(
        'test -e "$0"',
        "/keys/token",
        volumeMounts=[{"name": "keys", "mountPath": "/keys"}],
        spec={"volumes": [{"name": "keys", "secret": {"secretName": "keys"}}]},
    )
    own_pods.until_phase(name, "Succeeded")

    def left() -> list[Any]:
        return [p for p in own_node.folder.rglob("*") if p.is_file() and b"very-s3cret" in p.read_bytes()]

    own_pods.wait_until("the pod's files to go", lambda: not left())


def test_a_node_object_that_was_deleted_comes_back(own_node: Any, cluster: Any) -> None:
    cluster.kubectl("delete", "node", own_node.name)
    cluster.kubectl("wait", f"node/{own_node.name}", "--for=create", "--timeout=30s")
    cluster.kubectl("wait", f"node/{own_node.name}", "--for=condition=Ready", "--timeout=30s")


def test_two_nodes_cannot_use_one_folder(own_node: Any) -> None:
    assert "stop it, or give --directory another folder" in own_node.start_refused()
