"""Pipecat Cloud's types of what ``bot()`` is handed: its bots import them from ``pipecatcloud.agent``.

Ours, because the real distribution imports what its CLI needs: 27 MB, and the image has 12 left. ``last_on_path``
holds them under that name, behind all else: the real one is found first where it is installed.
"""

import sys

from pipecat.runner.types import (
    DailyRunnerArguments,
    MOQRunnerArguments,
    RunnerArguments,
    SmallWebRTCRunnerArguments,
    WebSocketRunnerArguments,
)


class SessionArguments:
    """Of any session."""

    session_id: str | None


class PipecatSessionArguments(RunnerArguments, SessionArguments):
    """Of a session without a transport of its own."""


class DailySessionArguments(DailyRunnerArguments, SessionArguments):
    """Of a session in a Daily room."""


class WebSocketSessionArguments(WebSocketRunnerArguments, SessionArguments):
    """Of a session over a WebSocket."""


class SmallWebRTCSessionArguments(SmallWebRTCRunnerArguments, SessionArguments):
    """Of a session over WebRTC."""


class MOQSessionArguments(MOQRunnerArguments, SessionArguments):
    """Of a session over Media over QUIC."""


def daily_type() -> type[DailyRunnerArguments]:
    """DailySessionArguments, by which a bot may ask with isinstance(): the real one if the bot imported that."""
    agent = sys.modules.get("pipecatcloud.agent")
    found: type[DailyRunnerArguments] = agent.DailySessionArguments if agent else DailySessionArguments
    return found
