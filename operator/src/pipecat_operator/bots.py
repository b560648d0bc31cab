"""The status of Bots: how many live sessions each has, written at most every few seconds."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from loguru import logger

from pipecat_operator.api import Bot, BotStatus, Condition
from pipecat_operator.cache import Cache
from pipecat_operator.conditions import brief
from pipecat_operator.job import template_problem
from pipecat_operator.kube import BOTS, ApiError, Kube

EVERY_S: Final = 5.0
READY: Final = "Ready"


async def keep_status(kube: Kube, cache: Cache, clock: Callable[[], datetime]) -> None:
    """Until cancelled."""
    while True:
        for (namespace, name), bot in cache.bots():
            live, generation = cache.live((namespace, name)), bot.metadata.generation
            if (bot.status.live_sessions, bot.status.observed_generation) == (live, generation):
                continue
            status = BotStatus(live_sessions=live, observed_generation=generation, conditions=(_ready(bot, clock()),))
            value = status.model_dump(mode="json", by_alias=True)
            try:
                stored = await kube.put_status(BOTS, namespace, name, bot.metadata.uid, value)
            except ApiError as error:
                logger.warning("Bot {}/{}: its status was not written: {}", namespace, name, error)
                continue
            # The watch may have told of its deletion meanwhile; nothing would tell of it again.
            if cache.has_bot((namespace, name)):
                cache.apply_bot("MODIFIED", stored)
        await asyncio.sleep(EVERY_S)


def _ready(bot: Bot, now: datetime) -> Condition:
    """Could a session of this Bot be started? Tells of a podTemplate that can't before anybody calls."""
    problem = template_problem(bot)
    state = "False" if problem else "True"
    before = next((c for c in bot.status.conditions if c.type == READY), None)
    return Condition(
        type=READY,
        status=state,
        reason="InvalidPodTemplate" if problem else "Accepted",
        message=brief(problem or ""),
        observed_generation=bot.metadata.generation,
        last_transition_time=before.last_transition_time if before and before.status == state else now,
    )
