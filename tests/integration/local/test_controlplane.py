"""The local control plane is a real one: its controllers work, RBAC binds, writes are audited."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import wait_until
from support.raw_api import RawApi

Kubectl = Callable[..., str]


def test_a_job_gets_a_pod(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "job", "work", "--image=example", "--namespace", namespace)

    def pods() -> list[dict[str, object]]:
        listed = kubectl("get", "pods", "--selector", "job-name=work", "--namespace", namespace, "--output", "json")
        return list(json.loads(listed)["items"])

    assert len(wait_until("the Job's pod", pods, 20)) == 1


def test_what_an_object_owns_goes_with_it(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "configmap", "owner", "--namespace", namespace)
    uid = kubectl("get", "configmap", "owner", "--namespace", namespace, "--output", "jsonpath={.metadata.uid}")
    owned = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "owned",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}],
        },
    }
    kubectl("create", "--namespace", namespace, "--filename", "-", stdin=json.dumps(owned))
    kubectl("delete", "configmap", "owner", "--namespace", namespace)
    kubectl("wait", "secret", "owned", "--for=delete", "--namespace", namespace, "--timeout=30s")


def test_a_service_account_may_do_what_it_was_given_and_nothing_else(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "serviceaccount", "reader", "--namespace", namespace)
    cluster.kubectl("create", "role", "read", "--verb=list", "--resource=pods", "--namespace", namespace)
    cluster.kubectl(
        "create", "rolebinding", "read", "--role=read", f"--serviceaccount={namespace}:reader", "--namespace", namespace
    )
    reader = cluster.kubeconfig_for_service_account(namespace, "reader")
    cluster.kubectl("get", "pods", kubeconfig=reader)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        cluster.kubectl("get", "secrets", kubeconfig=reader)
    assert f'User "system:serviceaccount:{namespace}:reader" cannot list resource "secrets"' in refused.value.stderr


def test_writes_are_in_the_audit_log_once_and_reads_are_not(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "configmap", "written", "--namespace", namespace)
    cluster.kubectl("get", "configmap", "written", "--namespace", namespace)
    events = cluster.audited(namespace)
    ours = [event for event in events if event["requestURI"].startswith(f"/api/v1/namespaces/{namespace}/configmaps")]
    by_admin = [(event["verb"], event["stage"]) for event in ours if event["user"]["username"] == "admin"]
    assert by_admin == [("create", "ResponseComplete")]


def test_a_long_audit_log_is_one_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipecat_local.controlplane", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        plane = Cluster(tmp_path)
        plane.create_namespace("first")
        api = RawApi(plane)
        # Refused for its size, and on record all the same.
        job = {"metadata": {"name": "long", "annotations": {"long": "x" * 2_900_000}}}
        for _ in range(40):
            assert api("POST", "/apis/batch/v1/namespaces/first/jobs", job)[0] == 422
        api.close()
        process.send_signal(signal.SIGTERM)
    assert plane.audit_log.stat().st_size > 110_000_000
    assert [event["verb"] for event in plane.audited('"namespaces","name":"first"', '"username":"admin"')] == ["create"]


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipecat_local.controlplane", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["ready"]
        assert len(_running_in(tmp_path)) == 5
        process.send_signal(signal.SIGKILL)
    wait_until("its components to end", lambda: not _running_in(tmp_path), 10)


def test_a_component_that_fails_shows_its_last_log_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipecat_local.controlplane", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        etcd = next(pid for pid, line in _running_in(tmp_path).items() if "--data-dir" in line)
        os.kill(etcd, signal.SIGKILL)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"etcd ended with exit code -9. The end of {tmp_path}/etcd.log:" in said
    assert not _running_in(tmp_path)


def _running_in(folder: Path) -> dict[int, str]:
    """Command lines of processes that name that folder, by pid."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found[int(file.parent.name)] = line
    return found
