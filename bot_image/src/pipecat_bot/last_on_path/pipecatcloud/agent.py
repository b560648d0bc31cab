"""Where bots written for Pipecat Cloud import the types of what they are handed."""

from pipecat_bot.session_arguments import (
    DailySessionArguments,
    MOQSessionArguments,
    PipecatSessionArguments,
    SessionArguments,
    SmallWebRTCSessionArguments,
    WebSocketSessionArguments,
)

__all__ = [
    "DailySessionArguments",
    "MOQSessionArguments",
    "PipecatSessionArguments",
    "SessionArguments",
    "SmallWebRTCSessionArguments",
    "WebSocketSessionArguments",
]
