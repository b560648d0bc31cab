"""Finds ``async def bot(runner_args)`` in a file, as Pipecat Cloud's image and development runner do."""

import importlib.util
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Bot = Callable[[Any], Awaitable[Any]]


class NoBot(Exception):
    """The file holds no bot; the text says what to do."""


def load(path: Path) -> Bot:
    """Import ``path`` as module ``bot``, its folder first on the import path, and answer its ``bot``.

    Last on the path is what Pipecat Cloud's bots import and is not installed: ``session_arguments`` tells of it.

    Raises:
        NoBot: no such file, or no ``bot`` in it.
        BaseException: whatever the file raises.
    """
    if not path.is_file():
        raise NoBot(f"There is no {path} in {Path.cwd()}: put your bot there, or name its file by PIPECAT_BOT_FILE.")
    spec = importlib.util.spec_from_file_location("bot", path.resolve())
    if spec is None or spec.loader is None:
        raise NoBot(f"{path} is not a Python file (its name must end in .py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bot"] = module
    sys.path.insert(0, str(path.resolve().parent))
    sys.path.append(str(Path(__file__).with_name("last_on_path")))
    spec.loader.exec_module(module)
    bot = getattr(module, "bot", None)
    if not callable(bot):
        raise NoBot(f"{path} has no function bot: define `async def bot(runner_args)` in it.")
    found: Bot = bot
    return found
