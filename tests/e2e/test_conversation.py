"""From `kubectl apply` to a heard answer, and every polite way a call ends: with the bot's real pipeline in its pod."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipecat_local import callers
from pipecat_local.observer import Sessions, until_nothing_is_left
from pipecat_local.stack import Services, Stack
from pipecat_operator.conditions import Phase

pytestmark = pytest.mark.asyncio(loop_scope="session")

Apply = Callable[..., None]
Session = dict[str, Any]

START_S = 90.0
END_S = 90.0
GONE_S = 60.0


def services(stack: Stack) -> Services:
    assert stack.services
    return stack.services


async def joined(stack: Stack, watched: Sessions, name: str) -> tuple[str, str]:
    """The room's URL and the user's token, once the bot is in the room."""
    session = await watched.until(name, Phase.RUNNING, timeout_s=START_S)
    assert session["status"]["phase"] == Phase.RUNNING, session["status"]
    token = await asyncio.to_thread(callers.user_token, stack.cluster, session)
    return session["status"]["room"]["url"], token


async def ended(watched: Sessions, name: str) -> Session:
    return await watched.until(name, Phase.SUCCEEDED, timeout_s=END_S)


async def gone(stack: Stack, *sessions: Session) -> None:
    """Delete them; nothing of them is left."""
    names = [session["metadata"]["name"] for session in sessions]
    await asyncio.to_thread(stack.cluster.kubectl, "delete", "botsession", *names)
    for session in sessions:
        await until_nothing_is_left(stack.cluster, services(stack), session, GONE_S)


def writes_for(stack: Stack, session: Session) -> list[str]:
    """What the operator wrote for that session, Events aside, by the API server's own audit log."""
    about = {session["metadata"]["name"], session["status"]["jobName"], session["status"]["credentialsSecretName"]}
    written = []
    for event in stack.cluster.audited(session["metadata"]["namespace"]):
        target = event["objectRef"]
        by_operator = event["user"]["username"] == "system:serviceaccount:pipecat-system:pipecat-operator"
        if by_operator and target.get("name") in about:
            written.append("/".join([event["verb"], target["resource"], target.get("subresource", "")]).rstrip("/"))
    return written


async def test_an_answer_is_heard_and_five_writes_were_enough(
    stack: Stack, watched: Sessions, apply: Apply, tmp_path: Path
) -> None:
    apply("heard")
    url, token = await joined(stack, watched, "heard")
    recording = tmp_path / "call.wav"
    call = await callers.result_of(url, token, tmp_path / "caller.log", "--seed", "7", "--record", str(recording))
    assert call["ok"], call
    assert [turn["verdict"] for turn in call["turns"]] == ["right", "right"]
    assert recording.stat().st_size > 16000

    session = await ended(watched, "heard")
    assert (session["status"]["phase"], session["status"]["endReason"]) == ("Succeeded", "UserLeft")
    # The audit log tells of a write when it is answered: a watch may be faster. Whatever comes after the fifth is
    # there once all is gone.
    await gone(stack, session)
    assert writes_for(stack, session) == [
        "create/secrets",
        "create/jobs",
        "patch/botsessions/status",
        "patch/botsessions/status",
        "patch/botsessions/status",
    ]


async def test_eight_conversations_at_once_and_nobody_came_to_the_ninth(
    stack: Stack, watched: Sessions, apply: Apply, tmp_path: Path
) -> None:
    """Each caller gets the right answers, each session ends for its own reason, nothing is left of any."""
    for name in ("left-1", "left-2", "left-3"):
        apply(name)
    for name in ("finished-1", "finished-2"):
        apply(name, bot="finishing")
    for name in ("stopped-1", "stopped-2"):
        apply(name)
    apply("maximum", session={"maxDurationSeconds": 60})
    apply("no-show", session={"joinTimeoutSeconds": 20})

    async def converse(name: str, seed: int, questions: int, *stay: str) -> dict[str, Any]:
        url, token = await joined(stack, watched, name)
        result: dict[str, Any] = {}
        options = ("--seed", str(seed), "--questions", str(questions), *stay)
        async for result in callers.call(url, token, tmp_path / f"{name}.log", *options):
            if name.startswith("stopped") and result["event"] == "turn":
                patch = ("--type", "merge", "--patch", '{"spec": {"stop": true}}')
                await asyncio.to_thread(stack.cluster.kubectl, "patch", "botsession", name, *patch)
        return result

    names = [*(f"{way}-{n}" for way in ("left", "finished", "stopped") for n in (1, 2)), "left-3", "maximum", "no-show"]
    await asyncio.gather(*(joined(stack, watched, name) for name in names))
    until_it_ends = ("--stay", "90")
    calls = await asyncio.gather(
        *(converse(f"left-{n}", n, 2) for n in (1, 2, 3)),
        *(converse(f"finished-{n}", 10 + n, 1, *until_it_ends) for n in (1, 2)),
        *(converse(f"stopped-{n}", 20 + n, 1, *until_it_ends) for n in (1, 2)),
        converse("maximum", 30, 1, *until_it_ends),
    )
    assert [call["why"] for call in calls if not call["ok"]] == []
    assert Counter(turn["verdict"] for call in calls for turn in call["turns"]) == {"right": 11}

    expected = {
        **{f"left-{n}": "UserLeft" for n in (1, 2, 3)},
        **{f"finished-{n}": "BotFinished" for n in (1, 2)},
        **{f"stopped-{n}": "Stopped" for n in (1, 2)},
        "maximum": "MaxDuration",
        "no-show": "NoShow",
    }
    sessions = await asyncio.gather(*(ended(watched, name) for name in expected))
    assert {s["metadata"]["name"]: s["status"]["endReason"] for s in sessions} == expected
    await gone(stack, *sessions)


async def test_deleting_a_session_in_the_middle_of_a_call_ends_it_and_leaves_nothing(
    stack: Stack, watched: Sessions, apply: Apply, tmp_path: Path
) -> None:
    apply("deleted")
    url, token = await joined(stack, watched, "deleted")
    session = await watched.until("deleted", Phase.RUNNING, timeout_s=START_S)
    ends = []
    async for event in callers.call(url, token, tmp_path / "caller.log", "--questions", "1", "--stay", "60"):
        if event["event"] == "turn":
            await gone(stack, session)
        ends.append(event["event"])
    assert ends[-2:] == ["ended", "result"]
