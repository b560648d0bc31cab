"""How pods end, and what their status and their Job say of it."""

from typing import Any

SLEEP = "exec sleep 60"
HANDLED = "trap 'sleep 0.5; echo said goodbye; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
IGNORED = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
LONG = {"terminationGracePeriodSeconds": 20}


def test_exit_0_succeeds(pods: Any) -> None:
    ended = pods.until_ended(pods.run("exit 0"))
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    assert ended["startedAt"] <= ended["finishedAt"]


def test_exit_3_fails_with_its_termination_message(pods: Any) -> None:
    name = pods.run(
        'echo noise; printf \'{"reason": "why"}\' > $LOG; exit 3',
        env=[{"name": "LOG", "value": "/dev/termination-log"}],
    )
    ended = pods.until_ended(name)
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", '{"reason": "why"}')
    assert pods.get(name)["status"]["phase"] == "Failed"


def test_a_termination_message_is_cut_at_4096_bytes_from_its_end(pods: Any) -> None:
    env = [{"name": "LOG", "value": "/var/why"}]
    script = "import os, sys; open(os.environ['LOG'], 'w').write('x' * 100 + 'y' * 4096)"
    name = pods.run(script, image="python:dev", env=env, terminationMessagePath="/var/why")
    assert pods.until_ended(name)["message"] == "y" * 4096


def test_without_a_message_the_log_s_end_stands_in_for_it(pods: Any) -> None:
    name = pods.run("seq 100; exit 1", terminationMessagePolicy="FallbackToLogsOnError")
    assert pods.until_ended(name)["message"] == "".join(f"{n}\n" for n in range(21, 101))


def test_a_program_that_is_not_there_is_a_start_error(pods: Any) -> None:
    ended = pods.until_ended(pods.run(command=["no-such-program"]))
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "no-such-program" in ended["message"]


def test_a_signal_is_an_exit_code_above_128(pods: Any) -> None:
    # Kubernetes makes $ of $$.
    assert pods.until_ended(pods.run("kill -KILL $$$$"))["exitCode"] == 137


def test_what_a_main_process_leaves_ends_with_it(pods: Any, shared_node: Any) -> None:
    name = pods.run("sleep 61 & setsid sleep 62 & exit 0")
    pods.until_ended(name)
    assert [line for line in shared_node.processes() if "sleep 6" in line] == []


def test_the_cause_of_a_failure_outlives_the_pod_in_its_job(pods: Any) -> None:
    job, pod = pods.run_job("exit 70")
    failed = pods.until_job_failed(job)
    assert failed["reason"] == "PodFailurePolicy"
    assert f"{pod} failed with exit code 70" in failed["message"]


def test_a_deleted_pod_ends_within_its_grace_and_tells_its_job_first(pods: Any, shared_node: Any) -> None:
    job, pod = pods.run_job(HANDLED)
    pods.until_logged(pod, "ready")
    pods.kubectl("delete", "pod", pod, "--wait=false")
    # Its own exit code, so the handler ran to its end; and the status came before the pod went.
    assert "exit code 7" in pods.until_job_failed(job)["message"]
    pods.until_gone(pod)
    pods.until_event(pod, "Killing", "Stopping container bot")


def test_what_ignores_sigterm_is_killed_after_the_grace(pods: Any) -> None:
    job, pod = pods.run_job(IGNORED)
    pods.until_logged(pod, "ready")
    pods.kubectl("delete", "pod", pod, "--grace-period=2", "--wait=false")
    assert "exit code 137" in pods.until_job_failed(job)["message"]


def test_a_shorter_grace_that_comes_later_counts(pods: Any) -> None:
    name = pods.run(IGNORED, spec={"terminationGracePeriodSeconds": 600})
    pods.until_logged(name, "ready")
    pods.kubectl("delete", "pod", name, "--wait=false")
    pods.until(name, lambda pod: pod["metadata"].get("deletionGracePeriodSeconds") == 600)
    pods.kubectl("delete", "pod", name, "--grace-period=1", "--wait=false")
    pods.until_gone(name)


def test_a_force_deleted_pod_leaves_no_process(pods: Any, shared_node: Any) -> None:
    name = pods.run("exec sleep 63")
    pods.until_phase(name, "Running")
    assert any("sleep 63" in line for line in shared_node.processes())
    pods.kubectl("delete", "pod", name, "--grace-period=0", "--force")
    pods.wait_until("its process to end", lambda: not any("sleep 63" in line for line in shared_node.processes()))


def test_a_pod_deleted_before_it_started_fails(pods: Any) -> None:
    job, pod = pods.run_job("exit 0", image="nowhere:1")
    pods.until(pod, lambda found: found["status"].get("containerStatuses"))
    pods.kubectl("delete", "pod", pod, "--wait=false")
    assert "exit code 137" in pods.until_job_failed(job)["message"]


def test_a_pod_past_its_active_deadline_fails_for_that_reason(pods: Any) -> None:
    name = pods.run(SLEEP, spec={"activeDeadlineSeconds": 1})
    pod = pods.until_phase(name, "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert pod["status"]["message"] == "Pod was active on the node longer than the specified deadline"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143


def test_a_job_past_its_active_deadline_fails_and_its_pod_goes(pods: Any) -> None:
    job, pod = pods.run_job(SLEEP, job={"activeDeadlineSeconds": 2})
    assert pods.until_job_failed(job)["reason"] == "DeadlineExceeded"
    pods.until_gone(pod)


def test_an_evicted_pod_keeps_the_condition_and_its_job_the_cause(pods: Any) -> None:
    job, pod = pods.run_job(SLEEP)
    pods.until_phase(pod, "Running")
    pods.evict(pod)
    failed = pods.until_job_failed(job)
    assert "DisruptionTarget" in failed["message"]
    pods.until_gone(pod)
