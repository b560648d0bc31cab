"""What every weather test asks: was the user told, was nobody else harmed, is nothing left?"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipecat_local.processes import wait_until
from support.operated import WAIT_S, Operated

TTL = {"ttlSecondsAfterFinished": 3}
QUICK = {**TTL, "startTimeoutSeconds": 4, "terminationGracePeriodSeconds": 1}
"""Limits of a session that will not start."""
PATIENT = {**QUICK, "startTimeoutSeconds": 60}
"""Of one whose trouble is looked at before the timeout."""
LEFT_S = 60.0
BYSTANDER = "bystander"

Event = tuple[str, str]
"""Reason and message."""


def condition(status: dict[str, Any], kind: str) -> tuple[str, str, str]:
    """Status, reason and message; empty when there is none."""
    found = next((c for c in status.get("conditions", ()) if c["type"] == kind), {})
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


@dataclass(frozen=True)
class Told:
    """All that was told of a session that has ended."""

    status: dict[str, Any]
    events: list[Event]

    def check(self, reason: str, *words: str) -> None:
        """Reason and words stand in the final status, its condition and, if it failed, in an event."""
        told = json.dumps([self.status, self.events], indent=1)
        message = self.status["message"]
        assert self.status["endReason"] == reason, told
        assert all(word in message for word in words), told
        assert condition(self.status, "Finished") == ("True", reason, message), told
        about = [said for why, said in self.events if why == reason]
        if self.status["phase"] == "Failed":
            assert any(all(word in said for word in words) for said in about), told
        else:
            assert about == [], told


def told(operated: Operated, name: str = "s", wait_s: float = WAIT_S) -> Told:
    """Once it has ended; the event of its end comes after its status."""
    status = operated.until_ended(name, wait_s)
    if status["phase"] == "Failed":
        wait_until("its event", lambda: status["endReason"] in dict(operated.events(name)), 20, 0.1)
    return Told(status, operated.events(name))


def stop(operated: Operated, name: str) -> None:
    """End it as its user does."""
    operated.kubectl("patch", "botsession", name, "--type=merge", "-p", '{"spec":{"stop":true}}')


@contextlib.contextmanager
def unharmed(operated: Operated, bot: str = "bot") -> Iterator[None]:
    """Another session lives through whatever happens inside, and so does the operator.

    Afterwards nothing may be left of any session once its TTL is over, and nothing was ever made twice.
    """
    operated.session(BYSTANDER, bot=bot, session=TTL)
    before = operated.until_phase("Running", name=BYSTANDER)
    yield
    assert operated.operator.ended() is None, operated.operator.log()
    assert operated.get("botsession", BYSTANDER)["status"] == before
    stop(operated, BYSTANDER)
    assert operated.until_ended(BYSTANDER)["endReason"] == "Stopped"
    until_nothing_is_left(operated)


def until_nothing_is_left(operated: Operated) -> None:
    """No session, Job, pod, Secret or room; and no more than one of each was ever made for a session."""

    def nothing() -> bool:
        left[:] = operated.kubectl("get", "botsessions,jobs,pods", "-o", "name").split()
        left.extend(operated.kubectl("get", "secrets", "-o", "name", "-l", "pipecat.dev/session").split())
        left.extend(operated.rooms())
        return not left

    left: list[str] = []
    try:
        wait_until("nothing to be left", nothing, LEFT_S, 0.2)
    except TimeoutError as error:
        error.add_note(f"{left}\n{operated.operator.log()}")
        raise
    counts = made(operated)
    assert {what.split()[0] for what in counts} == {"jobs", "secrets", "room"}
    assert [name for name, times in counts.items() if times > 1] == []


def made(operated: Operated) -> Counter[str]:
    """How often each Job, Secret and room of the sessions was made."""
    counts = Counter(f"room {name}" for name in operated.daily_state()["made"] if name.startswith(operated.namespace))
    for entry in operated.cluster.audited(operated.namespace):
        of = entry["objectRef"]
        ours = of["resource"] in ("jobs", "secrets") and of.get("name", "").startswith("bs-")
        if ours and entry["verb"] == "create" and entry["responseStatus"]["code"] < 300:
            counts[f"{of['resource']} {of['name']}"] += 1
    return counts
