"""From `kubectl apply`, and from the gateway's HTTP, to a heard answer: in containers."""

import subprocess

import pytest

from e2e.client import PUBLIC, Client
from support.installed import CALLS, RELEASE, Installed

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_helm_finds_all_well(installed: Installed):
    assert "Phase:          Succeeded" in installed.helm("test", RELEASE)


async def test_an_answer_is_heard(installed: Installed):
    installed.session("heard")
    installed.until_phase("heard", "Running")
    call = await installed.result_of("heard")
    assert [turn["verdict"] for turn in call["turns"]] == ["right", "right"], call
    assert installed.until_ended("heard")["endReason"] == "UserLeft"
    installed.delete("heard")


async def test_an_answer_is_heard_by_whom_the_gateway_let_in(installed: Installed, client: Client):
    status, started = client.call(PUBLIC, "POST", "/start", {})
    assert status == 200, started
    name = installed.name_of(started["sessionId"])
    assert started["dailyRoom"] == installed.status(name)["room"]["url"]
    installed.until_phase(name, "Running")
    call = await installed.result_of(name, "--questions", "1")
    assert [turn["verdict"] for turn in call["turns"]] == ["right"], call
    assert installed.until_ended(name)["endReason"] == "UserLeft"
    installed.delete(name)


async def test_nothing_is_wrong_by_what_operator_and_gateway_say(installed: Installed):
    """Most of what fails is tried again, and only late."""
    assert [line for line in installed.logs().splitlines() if " ERROR " in line] == []


async def test_nobody_is_let_in_past_the_restricted_standard(installed: Installed):
    """So what runs here is what the strictest clusters allow."""
    root = {"securityContext": {"privileged": True}, "name": "root", "image": "pipecat-bot:dev"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": {"containers": [root]}}
    with pytest.raises(subprocess.CalledProcessError) as refused:
        installed.apply(pod, CALLS)
    assert "violates PodSecurity" in refused.value.stderr
