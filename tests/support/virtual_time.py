"""An event loop whose clock leaps to the next timer: hours of waiting take no time, and always the same turns."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

Given = ParamSpec("Given")
Events = list[tuple[selectors.SelectorKey, int]]


class _Leaping(selectors.DefaultSelector):
    """Moves its clock where others wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Events:
        if timeout is None:
            raise AssertionError("everything waits for something that nothing will bring")
        self.now += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now


def virtual_time(test: Callable[Given, Coroutine[Any, Any, None]]) -> Callable[Given, None]:
    """Run the test on such a loop, from second 0 on. For what needs no network, file or thread."""

    @functools.wraps(test)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def now() -> float:
    """Seconds since the test began."""
    return asyncio.get_running_loop().time()


async def ran_for(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    """Let work that never ends go on that long, then cancel it; what it raises is raised."""
    task = asyncio.ensure_future(work)
    await asyncio.wait((task,), timeout=seconds)
    if task.done():
        await task
        raise AssertionError("it ended")
    task.cancel()
    await asyncio.wait((task,))
