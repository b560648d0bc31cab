"""What may become of calls, as rules for a ledger."""

import random
from collections import Counter
from collections.abc import Collection
from enum import StrEnum
from typing import Final

from support.proxy import Call, Fault, Late, Rule, Side

DELAY_S: Final = 0.3
"""Longer than a whole start takes."""


class Kind(StrEnum):
    """Ways of failing."""

    DELAYED = "delayed"
    THROTTLED = "429"
    THROTTLED_FOR_A_WHILE = "429-with-retry-after"
    ERROR = "500"
    UNAVAILABLE = "503"
    CONFLICT = "409"
    GONE = "410"
    RESET = "reset-before"
    RESET_AFTER = "reset-after"
    ERROR_AFTER = "503-after"
    GARBLED = "garbled"
    NOT_FOUND = "404"
    """Of a write, though it is there: a gateway in between, or a webhook, said so."""
    INVALID = "422"


_FATES: Final[dict[Kind, Fault | Late]] = {
    Kind.DELAYED: Late(DELAY_S),
    Kind.THROTTLED: Fault(status=429),
    Kind.THROTTLED_FOR_A_WHILE: Fault(status=429, retry_after=1),
    Kind.ERROR: Fault(status=500),
    Kind.UNAVAILABLE: Fault(status=503),
    Kind.CONFLICT: Fault(status=409),
    Kind.GONE: Fault(status=410),
    Kind.RESET: Fault(),
    Kind.RESET_AFTER: Fault(carried_out=True),
    Kind.ERROR_AFTER: Fault(carried_out=True, status=503),
    Kind.GARBLED: Fault(status=200, text="<html>"),
    Kind.NOT_FOUND: Fault(status=404),
    Kind.INVALID: Fault(status=422),
}


def fate(kind: Kind, call: Call) -> Fault | Late | None:
    """What the call meets; None: such a call never fails in that way."""
    if kind is Kind.CONFLICT and not (call.write and call.side is Side.KUBERNETES):
        return None
    if kind in (Kind.NOT_FOUND, Kind.INVALID) and not call.path.endswith("/status"):
        return None
    if kind is Kind.GONE and not (call.watch or _lists(call)):
        return None
    return _FATES[kind]


def first_tries(kind: Kind, tries: int, own: str) -> Rule:
    """Whatever is called for the first ``tries`` times meets it; ``own`` as for Call.label."""
    met: Counter[str] = Counter()

    def rule(call: Call) -> Fault | Late | None:
        label = call.label(own)
        met[label] += 1
        return fate(kind, call) if met[label] <= tries else None

    return rule


def by_chance(kinds: Collection[Kind], probability: float, seed: int, sides: Collection[Side] = tuple(Side)) -> Rule:
    """Each call to those sides meets one of them with that probability."""
    chance, choices = random.Random(seed), sorted(kinds)

    def rule(call: Call) -> Fault | Late | None:
        if call.side not in sides or chance.random() >= probability:
            return None
        return fate(chance.choice(choices), call)

    return rule


def down(_: Call) -> Fault:
    """Nobody answers."""
    return Fault()


def _lists(call: Call) -> bool:
    """Of Jobs, Pods, Bots or BotSessions."""
    plural = call.path.rpartition("/")[2]
    return call.method == "GET" and plural in ("jobs", "pods", "bots", "botsessions")
