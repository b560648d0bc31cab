"""Words that many tests say."""

from typing import Final

USER_LEFT: Final = {"reason": "UserLeft", "message": "The user left the call."}
"""A bot's termination message."""

WRITES: Final = {"create secrets": 1, "create jobs": 1, "patch botsessions/status": 3}
"""The operator's, of each life to its end; the delete after the TTL counts apart."""
