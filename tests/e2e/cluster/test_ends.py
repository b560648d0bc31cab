"""How calls end on a real node: for every reason that a fake one can only claim."""

import asyncio
import json

import pytest

from support.installed import CALLS, GOODBYE, TIMEOUT, Installed, heard_last

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_image_that_is_not_there(installed: Installed):
    installed.bot("nowhere", image="pipecat-bot:nowhere")
    installed.session("nowhere", bot="nowhere", session={"startTimeoutSeconds": 30})
    status = installed.until_ended("nowhere")
    assert (status["phase"], status["endReason"]) == ("Failed", "ImagePullFailed"), status
    assert "pipecat-bot:nowhere" in status["message"]
    installed.delete("nowhere")


async def test_a_pod_is_deleted_in_a_call(installed: Installed):
    """Its grace is used: the caller is told."""
    calling = await installed.in_a_call("deleted")
    await asyncio.to_thread(installed.kubectl, "delete", installed.pod("deleted"), "--wait=false")
    assert heard_last(await calling) == GOODBYE
    status = installed.until_ended("deleted")
    assert (status["phase"], status["endReason"]) == ("Failed", "BotDeleted"), status
    installed.delete("deleted")


async def test_a_pod_is_evicted_in_a_call(installed: Installed):
    calling = await installed.in_a_call("evicted")
    pod = installed.pod("evicted").removeprefix("pod/")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": CALLS}}
    path = f"/api/v1/namespaces/{CALLS}/pods/{pod}/eviction"
    await asyncio.to_thread(installed.kubectl, "create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    assert heard_last(await calling) == GOODBYE
    status = installed.until_ended("evicted")
    assert (status["phase"], status["endReason"]) == ("Failed", "Evicted"), status
    installed.delete("evicted")


async def test_the_node_is_drained_in_a_call(installed: Installed):
    """The grace is used, the goodbye is heard; and the node serves again once it may."""
    calling = await installed.in_a_call("drained")
    node = installed.get("pod", installed.pod("drained").removeprefix("pod/"))["spec"]["nodeName"]
    uid = installed.get("botsession", "drained")["metadata"]["uid"]
    only = f"--pod-selector=pipecat.dev/session={uid}"
    try:
        await asyncio.to_thread(installed.kubectl, "drain", node, only, "--delete-emptydir-data", TIMEOUT, namespace="")
    finally:
        installed.kubectl("uncordon", node, namespace="")
    assert heard_last(await calling) == GOODBYE
    status = installed.until_ended("drained")
    assert (status["phase"], status["endReason"]) == ("Failed", "Evicted"), status
    installed.delete("drained")


async def test_a_call_is_stopped(installed: Installed):
    calling = await installed.in_a_call("stopped")
    installed.stop("stopped")
    assert heard_last(await calling) == GOODBYE
    status = installed.until_ended("stopped")
    assert (status["phase"], status["endReason"]) == ("Succeeded", "Stopped"), status
    installed.delete("stopped")
