"""kopf's part: it watches BotSessions and Bots, and its handlers only tell the cache."""

import asyncio
from collections.abc import Callable
from typing import Any

import kopf

from pipecat_operator import names
from pipecat_operator.cache import Cache
from pipecat_operator.kube import login


class NoDiffs(kopf.DiffBaseStorage):
    """No handler of ours is told what changed.

    kopf works it out all the same: by a copy of the whole object, which ends at a deep one, and by an annotation of
    its own, which anybody may have written.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing of an object is compared."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """Nothing was kept."""

    def store(self, **_: Any) -> None:
        """Nothing is kept."""


def registry(cache: Cache, started: Callable[[], None]) -> kopf.OperatorRegistry:
    """The handlers. ``started`` is called once kopf has set itself up.

    Errors in ``on.event`` handlers are logged and never retried, so nothing else is done there. They are coroutines
    that await nothing: kopf runs a plain function in a thread, at 4 times the cost.
    """
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def authenticate(**_: Any) -> kopf.ConnectionInfo:
        return login()

    @kopf.on.startup(registry=handlers)
    async def start(**_: Any) -> None:
        # Its own handlers of signals are set when this turn of the event loop is over.
        asyncio.get_running_loop().call_soon(started)

    @kopf.on.event(names.GROUP, names.VERSION, "botsessions", registry=handlers)
    async def session(*, event: kopf.RawEvent, **_: Any) -> None:
        cache.apply_session(event["type"], dict(event["object"]))

    @kopf.on.event(names.GROUP, names.VERSION, "bots", registry=handlers)
    async def bot(*, event: kopf.RawEvent, **_: Any) -> None:
        cache.apply_bot(event["type"], dict(event["object"]))

    return handlers


def settings() -> kopf.OperatorSettings:
    """kopf as a source of events only: nothing posted, nothing stored, no discovery beyond our resources."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.persistence.diffbase_storage = NoDiffs()
    chosen.queueing.idle_timeout = 0.2
    # By default a kopf that gave up has the whole process killed ten minutes later, though it was begun again.
    chosen.process.ultimate_exiting_timeout = None
    # The default gives up after 84 s, with up to 21 s between two tries.
    chosen.networking.error_backoffs = (0.2, 0.5, 1, 2, *(3,) * 20)
    # A list that is not answered; the default of 300 s would leave us blind for as long.
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.watching.server_timeout = 600
    chosen.watching.connect_timeout = 5
    chosen.watching.inactivity_timeout = 70
    return chosen
