"""What a bot's container may do and use: looked at inside it."""

import asyncio
import json

import pytest

from pipecat_local.processes import wait_until
from support.installed import BOT_IMAGE, START_S, TIMEOUT, Installed

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT = 0.5
BUSY = {
    "resources": {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"cpu": "500m"}},
    "podTemplate": {"spec": {"containers": [{"name": "bot", "args": ["/opt/bots/busy.py"]}]}},
}
USAGE = """
import json, time
from pathlib import Path

def number(file, key=None):
    text = Path("/sys/fs/cgroup", file).read_text()
    return int(dict(line.split() for line in text.splitlines())[key] if key else text)

if Path("/sys/fs/cgroup/cpu.max").exists():
    quota, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text().split())
    used = lambda: number("cpu.stat", "usage_usec") / 1e6
    held = lambda: number("cpu.stat", "nr_throttled")
else:
    quota, period = number("cpu/cpu.cfs_quota_us"), number("cpu/cpu.cfs_period_us")
    used = lambda: number("cpuacct/cpuacct.usage") / 1e9
    held = lambda: number("cpu/cpu.stat", "nr_throttled")
began, before, held_before = time.monotonic(), used(), held()
time.sleep(5)
cores = (used() - before) / (time.monotonic() - began)
print(json.dumps({"limit": quota / period, "cores": cores, "held": held() - held_before}))
"""


def until_busy(installed: Installed, name: str) -> None:
    """The bot's own code runs: it says so."""
    installed.until_phase(name, "Starting")
    wait_until("the pod", lambda: installed.pod(name), START_S, 0.2)
    installed.kubectl("wait", installed.pod(name), "--for=jsonpath={.status.phase}=Running", TIMEOUT)
    wait_until("busy.py", lambda: "burning" in installed.kubectl("logs", installed.pod(name)), START_S, 0.5)


async def test_the_kernel_holds_a_bot_to_its_cpu_limit(installed: Installed):
    installed.bot("busy", **BUSY)
    installed.session("busy", bot="busy")
    until_busy(installed, "busy")
    usage = json.loads(installed.in_bot("busy", "python", "-c", USAGE))
    assert usage["limit"] == LIMIT
    assert usage["held"] > 0, "it wanted more"
    assert usage["cores"] < 1.1 * LIMIT, usage
    installed.stop("busy")
    assert installed.until_ended("busy")["endReason"] == "Stopped"
    installed.delete("busy")


async def test_a_busy_neighbour_harms_no_conversation(installed: Installed):
    installed.bot("busy", **BUSY)
    installed.session("neighbour", bot="busy")
    until_busy(installed, "neighbour")
    installed.session("unharmed")
    installed.until_phase("unharmed", "Running")
    call = await installed.result_of("unharmed")
    assert [turn["verdict"] for turn in call["turns"]] == ["right", "right"], call
    assert json.loads(installed.in_bot("neighbour", "python", "-c", USAGE))["held"] > 0, "it was busy all along"
    assert installed.until_ended("unharmed")["endReason"] == "UserLeft"
    for name in ("neighbour", "unharmed"):
        installed.delete(name)


async def test_a_bot_past_its_memory_limit_ends_as_out_of_memory(installed: Installed):
    args = [{"name": "bot", "args": ["/opt/bots/hungry.py"]}]
    resources = {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}}
    installed.bot("hungry", resources=resources, podTemplate={"spec": {"containers": args}})
    installed.session("hungry", bot="hungry")
    status = installed.until_ended("hungry")
    assert (status["phase"], status["endReason"]) == ("Failed", "OutOfMemory"), status
    installed.delete("hungry")


async def test_a_bot_is_nobody_and_can_write_nowhere_but_in_its_tmp(installed: Installed):
    installed.bot("plain", image=BOT_IMAGE)
    installed.session("looked-at")
    installed.until_phase("looked-at", "Running")
    look = """
import json, os
from pathlib import Path

def writable(path):
    try:
        Path(path, "probe").write_text("x")
        return True
    except OSError:
        return False

status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "user": os.getuid(),
    "capabilities": int(status["CapEff"], 16),
    "gains": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "writable": [path for path in ("/", "/app", "/opt", "/var/run/pipecat", "/tmp") if writable(path)],
    "token": Path("/var/run/secrets/kubernetes.io").exists(),
    "first": Path("/proc/1/cmdline").read_text().split(chr(0))[0],
}))
"""
    assert json.loads(installed.in_bot("looked-at", "python", "-c", look)) == {
        "user": 65532,
        "capabilities": 0,
        "gains": "1",
        "seccomp": "2",
        "writable": ["/tmp"],
        "token": False,
        "first": "dumb-init",
    }
    installed.stop("looked-at")
    await asyncio.to_thread(installed.until_ended, "looked-at")
    installed.delete("looked-at")
