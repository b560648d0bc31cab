"""Stands in for Pipecat Cloud's SDK: bots import the types of what they are handed. No more of it is here."""

from .agent import (
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
