"""An event loop that asks at each of its turns whether it may go on.

A leader that was frozen (SIGSTOP, a suspended machine, a starved container) wakes up as if no time had passed: what
had come for it is waiting to be worked on, and every timer has run out. Asking before a write is not enough then:
between the asking and the sending a connection may be waited for, and kopf asks nobody.
"""

import asyncio
import selectors
from collections.abc import Callable

Events = list[tuple[selectors.SelectorKey, int]]


class AskingSelector(selectors.DefaultSelector):
    """Calls ``ask`` each time it is waked, before anything that waited is worked on."""

    ask: Callable[[], None] | None = None

    def select(self, timeout: float | None = None) -> Events:
        """As every selector."""
        ready = super().select(timeout)
        if self.ask:
            self.ask()
        return ready


def event_loop(selector: AskingSelector) -> asyncio.AbstractEventLoop:
    """One on top of that selector."""
    return asyncio.SelectorEventLoop(selector)
