"""Fake pods behave as the operator must be able to rely on: they run, end as told, and end before they go."""

import json
import uuid
from pathlib import Path

from pipecat_local.controlplane import Cluster
from pipecat_local.kwok import KwokNodes
from pipecat_local.processes import wait_until


def job(cluster: Cluster, namespace: str) -> str:
    """A Job as the operator makes them, roughly; answers its pod's name, once it is Ready."""
    container = {"name": "bot", "image": "example"}
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "bot", "operator": "NotIn", "values": [0]}}
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work"},
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [rule]},
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
    cluster.kubectl("create", "--namespace", namespace, "--filename", "-", stdin=json.dumps(manifest))

    def ready() -> str:
        query = '{.items[?(@.status.phase=="Running")].metadata.name}'
        return cluster.kubectl("get", "pods", "--namespace", namespace, "--output", f"jsonpath={query}")

    return wait_until("the pod to run", ready, 20)


def test_a_pod_runs_on_its_namespace_s_own_nodes(cluster: Cluster, kwok_namespace: str) -> None:
    pod = job(cluster, kwok_namespace)
    query = "jsonpath={.spec.nodeName} {.status.containerStatuses[0].ready}"
    shown = cluster.kubectl("get", "pod", pod, "--namespace", kwok_namespace, "--output", query)
    assert shown == f"{kwok_namespace}-0 true"


def test_a_pod_of_another_namespace_is_not_run(cluster: Cluster, kwok_namespace: str, namespace: str) -> None:
    cluster.kubectl("run", "stranger", "--image=example", "--namespace", namespace)
    job(cluster, kwok_namespace)
    query = "jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}"

    def reason() -> str:
        return cluster.kubectl("get", "pod", "stranger", "--namespace", namespace, "--output", query)

    assert wait_until("the scheduler's verdict", reason, 20) == "Unschedulable"


def test_a_pod_ends_as_the_test_says(cluster: Cluster, kwok_namespace: str) -> None:
    pod = job(cluster, kwok_namespace)
    how = ["pipecat.dev/fake-exit-code=64", 'pipecat.dev/fake-message={"reason": "BadConfig"}']
    cluster.kubectl("annotate", "pod", pod, *how, "--namespace", kwok_namespace)
    cluster.kubectl("wait", "job/work", "--for=condition=Failed", "--namespace", kwok_namespace, "--timeout=30s")
    query = "jsonpath={.status.containerStatuses[0].state.terminated.message}"
    assert cluster.kubectl("get", "pod", pod, "--namespace", kwok_namespace, "--output", query) == (
        '{"reason": "BadConfig"}'
    )


def test_a_deleted_pod_ends_before_it_goes_so_its_job_learns_of_it(cluster: Cluster, kwok_namespace: str) -> None:
    pod = job(cluster, kwok_namespace)
    cluster.kubectl("delete", "pod", pod, "--namespace", kwok_namespace, "--timeout=30s")
    cluster.kubectl("wait", "job/work", "--for=condition=Complete", "--namespace", kwok_namespace, "--timeout=30s")


async def test_a_node_has_the_capacity_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    capacity = {"cpu": "2", "memory": "4Gi", "pods": "3"}
    async with KwokNodes(cluster, tmp_path, pool=pool, count=2, capacity=capacity):
        selector = f"pipecat.dev/pool={pool}"
        listed = cluster.kubectl("get", "nodes", "--selector", selector, "--output", "json")
    assert [node["status"]["allocatable"] for node in json.loads(listed)["items"]] == [capacity] * 2
