"""What a kubelet promises of pods, kept by real containers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipecat_local.realnode.cluster import RealNode
from support.pods import Pods, terminated

SAY_WHERE = "f=/sys/fs/cgroup/cpu/cpu.cfs_quota_us; [ -f $f ] || f=/sys/fs/cgroup/cpu.max; cat $f"
HOLD = "test.pipecat.dev/hold"
"""A finalizer: what was written of a deleted pod can still be read."""


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed")])
def test_a_pod_ends_with_its_exit_code_and_its_message(pods: Pods, code: int, phase: str) -> None:
    pods.run("ends", f"echo last words > /dev/termination-log; exit {code}")
    ended = terminated(pods.wait_phase("ends", phase))
    assert (ended["exitCode"], ended["message"]) == (code, "last words\n")


def test_the_cpu_limit_is_the_kernels_quota(pods: Pods) -> None:
    pods.run("limited", SAY_WHERE, {"resources": {"limits": {"cpu": "500m"}}})
    pods.wait_phase("limited", "Succeeded")
    assert pods.logs("limited").split()[0] == "50000"


def test_past_its_memory_limit_a_container_is_killed(pods: Pods) -> None:
    pods.run("hungry", "x=y; while :; do x=$x$x; done", {"resources": {"limits": {"memory": "64Mi"}}})
    ended = terminated(pods.wait_phase("hungry", "Failed"))
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


@pytest.mark.parametrize(
    ("on_sigterm", "grace_s", "code"),
    [("echo bye > /dev/termination-log; exit 3", 30, 3), ("true", 1, 137)],
    ids=["ends inside its grace", "is killed after its grace"],
)
def test_a_deleted_pod_is_asked_to_end_and_then_killed(pods: Pods, on_sigterm: str, grace_s: int, code: int) -> None:
    pods.run(
        "asked",
        f"trap '{on_sigterm}' TERM; touch /trapping; while :; do sleep 0.1; done",
        {"readinessProbe": {"exec": {"command": ["ls", "/trapping"]}, "periodSeconds": 1}},
        {"name": "asked", "finalizers": [HOLD]},
        terminationGracePeriodSeconds=grace_s,
    )
    pods.wait("asked", "condition=Ready")
    pods.kubectl("delete", "pod", "asked", "--wait=false")
    pod = pods.wait_end("asked")
    pods.kubectl("patch", "pod", "asked", "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')
    assert terminated(pod)["exitCode"] == code
    pods.kubectl("wait", "pod/asked", "--for=delete", "--timeout=30s")


def test_past_its_deadline_a_pod_has_failed(pods: Pods) -> None:
    pods.run("late", "sleep 600", activeDeadlineSeconds=1, terminationGracePeriodSeconds=1)
    assert pods.wait_phase("late", "Failed")["status"]["reason"] == "DeadlineExceeded"


def test_a_readiness_probe_asks_by_http(pods: Pods) -> None:
    probe = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}
    pods.run("probed", "mkdir /www; httpd -f -p 8080 -h /www", {"readinessProbe": probe})
    pods.wait("probed", "jsonpath={.status.containerStatuses[0].started}=true")
    assert _condition(pods.get("probed"), "Ready") == "False"
    pods.kubectl("exec", "probed", "--", "touch", "/www/ready")
    pods.wait("probed", "condition=Ready")


def test_a_secret_comes_as_environment_and_as_file(pods: Pods) -> None:
    pods.kubectl("create", "secret", "generic", "keys", "--from-literal=KEY=value of the key")
    pods.run(
        "told",
        'echo "$KEY"; cat /keys/KEY',
        {"envFrom": [{"secretRef": {"name": "keys"}}], "volumeMounts": [{"name": "keys", "mountPath": "/keys"}]},
        volumes=[{"name": "keys", "secret": {"secretName": "keys"}}],
    )
    pods.wait_phase("told", "Succeeded")
    assert pods.logs("told") == "value of the key\nvalue of the key"


def test_a_restricted_pod_can_do_no_more_than_it_should(pods: Pods) -> None:
    pods.kubectl("label", "namespace", pods.namespace, "pod-security.kubernetes.io/enforce=restricted")
    pods.run(
        "restricted",
        "id -u; touch /new 2>&1; grep -E 'CapEff|Seccomp:' /proc/self/status; ls /var/run/secrets 2>&1",
        {
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        },
        automountServiceAccountToken=False,
    )
    pods.wait_end("restricted")
    assert [line.split() for line in pods.logs("restricted").splitlines()] == [
        ["10001"],
        ["touch:", "/new:", "Read-only", "file", "system"],
        ["CapEff:", "0" * 16],
        ["Seccomp:", "2"],
        ["ls:", "/var/run/secrets:", "No", "such", "file", "or", "directory"],
    ]


def test_a_pod_that_must_not_be_root_and_is_does_not_start(pods: Pods) -> None:
    pods.run("root", "true", {"securityContext": {"runAsNonRoot": True}})
    pods.wait("root", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError")


def test_an_image_that_is_not_there_can_not_be_pulled(pods: Pods) -> None:
    pods.run("lost", "true", {"image": "nowhere:1"})
    pods.wait("lost", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull")


def test_its_output_can_be_read_and_commands_run_in_it(pods: Pods) -> None:
    pods.run("heard", "echo hello; sleep 600", terminationGracePeriodSeconds=0)
    pods.wait("heard", "condition=Ready")
    assert pods.logs("heard") == "hello\n"
    assert pods.kubectl("exec", "heard", "--", "sh", "-c", "echo $((6 * 7))") == "42\n"


@contextmanager
def without_kubelet(node: RealNode, runner: asyncio.Runner) -> Iterator[None]:
    runner.run(node.stop_kubelet())
    try:
        yield
    finally:
        runner.run(node.start_kubelet())


def test_pods_run_on_while_the_kubelet_starts_again(pods: Pods, node: RealNode, runner: asyncio.Runner) -> None:
    pods.run("stays", "sleep 600", terminationGracePeriodSeconds=0)
    before = pods.wait("stays", "condition=Ready")["status"]["containerStatuses"][0]
    with without_kubelet(node, runner):
        pass
    pods.run("next", "true")
    pods.wait_phase("next", "Succeeded")
    after = pods.get("stays")["status"]["containerStatuses"][0]
    assert after["state"] == before["state"]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)


def test_without_its_kubelet_the_node_is_lost_and_its_pods_run_on(
    pods: Pods, node: RealNode, runner: asyncio.Runner
) -> None:
    pods.run("alone", "sleep 600", terminationGracePeriodSeconds=0)
    before = pods.wait("alone", "condition=Ready")["status"]["containerStatuses"][0]
    with without_kubelet(node, runner):
        node.kubectl("wait", "node", node.name, "--for=condition=Ready=Unknown", "--timeout=55s")
        node.check()
        assert _condition(pods.wait("alone", "condition=Ready=False"), "PodScheduled") == "True"
    assert pods.wait("alone", "condition=Ready")["status"]["containerStatuses"][0] == before


def _condition(pod: dict[str, Any], name: str) -> str:
    return next(condition["status"] for condition in pod["status"]["conditions"] if condition["type"] == name)
