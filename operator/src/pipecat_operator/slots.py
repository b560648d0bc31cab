"""How many sessions may live at a time: of one Bot, and of one quota group.

The leader alone decides who may start, and counts and reserves in one turn of the event loop: so the bounds are exact,
whoever creates the sessions.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from pipecat_operator.api import Bot, BotSession, Quota

Owner = tuple[str, str, str]
"""Whose slots they are: ``Bot`` or ``Group``, its namespace, its name."""

WHAT_TO_DO: Final = "Start it anew when one of them has ended, or raise the bound."


class Slots:
    """Which sessions hold a slot; a session holds one of its Bot and, with a quota, one of its group, or none.

    All of them are counted, bounded or not: a bound may be set while they live.
    """

    def __init__(self) -> None:
        self._holders: set[str] = set()
        self._count: Counter[Owner] = Counter()

    def holds(self, uid: str) -> bool:
        """Whether that session may start, or did."""
        return uid in self._holders

    def take(self, session: BotSession, bot: Bot) -> str | None:
        """Give the session a slot, if there is one; else answers whose are all taken, and what to do."""
        if self.holds(session.metadata.uid):
            return None
        for owner, most, where in _bounds(session, bot):
            if self._count[owner] >= most:
                kind, _, name = owner
                return f"{kind} {name!r} has all the sessions it may have, {most} ({where}). {WHAT_TO_DO}"
        self.hold(session)
        return None

    def hold(self, session: BotSession) -> None:
        """It has started, whatever the bounds say now."""
        if session.metadata.uid not in self._holders:
            self._holders.add(session.metadata.uid)
            self._count.update(_owners(session))

    def release(self, session: BotSession) -> None:
        """It is over. Also one that never held any."""
        if session.metadata.uid not in self._holders:
            return
        self._holders.discard(session.metadata.uid)
        for owner in _owners(session):
            self._count[owner] -= 1
            if not self._count[owner]:
                del self._count[owner]


def _owners(session: BotSession) -> Iterator[Owner]:
    yield _bot(session)
    if quota := session.spec.quota:
        yield _group(session, quota)


def _bot(session: BotSession) -> Owner:
    return "Bot", session.metadata.namespace, session.spec.bot_ref.name


def _group(session: BotSession, quota: Quota) -> Owner:
    return "Group", session.metadata.namespace, quota.group


def _bounds(session: BotSession, bot: Bot) -> Iterator[tuple[Owner, int, str]]:
    """Whose slots are bounded, by how many, and where."""
    if (most := bot.spec.capacity.max_sessions) is not None:
        yield _bot(session), most, "the Bot's spec.capacity.maxSessions"
    if quota := session.spec.quota:
        yield _group(session, quota), quota.max_sessions, "spec.quota.maxSessions; the gateway sets it from the API key"
