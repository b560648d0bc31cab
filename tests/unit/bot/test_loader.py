"""What a bot finds when it imports what Pipecat Cloud's image has."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipecat_bot import session_arguments
from pipecat_bot.loader import load

ASKS = """
import pipecatcloud, pipecatcloud.agent
from pipecatcloud.agent import DailySessionArguments as found
async def bot(args): ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a bot that imports the types, in an interpreter that has no ``pipecatcloud``."""
    (tmp_path / "bot.py").write_text(ASKS)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "pipecatcloud").exists()])
    for name in _imported("pipecatcloud"):
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in _imported("pipecatcloud", "bot"):
        del sys.modules[name]


def _imported(*roots: str) -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in roots]


def test_the_hosts_types_where_nothing_else_has_them(folder: Path) -> None:
    """By the names that pipecatcloud 1.4.0 has, in both places."""
    load(folder / "bot.py")
    bot = sys.modules["bot"]
    assert bot.found is session_arguments.DailySessionArguments
    assert session_arguments.daily_type() is bot.found
    kinds = ("Daily", "MOQ", "Pipecat", "", "SmallWebRTC", "WebSocket")
    for module in (bot.pipecatcloud, bot.pipecatcloud.agent):
        assert set(module.__all__) == {f"{kind}SessionArguments" for kind in kinds}


@pytest.mark.parametrize("where", ["beside the bot", "installed"])
def test_the_real_distribution_where_it_is(where: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = folder if where == "beside the bot" else tmp_path_factory.mktemp("site-packages")
    (root / "pipecatcloud").mkdir()
    (root / "pipecatcloud" / "__init__.py").touch()
    (root / "pipecatcloud" / "agent.py").write_text("class DailySessionArguments: ...\n")
    if where == "installed":
        sys.path.append(str(root))
    load(folder / "bot.py")
    found = sys.modules["bot"].found
    assert found.__module__ == "pipecatcloud.agent"
    assert session_arguments.daily_type() is found


def test_without_it_the_hosts(folder: Path) -> None:
    """Whatever is installed: a bot that doesn't import it isn't made to wait for it."""
    assert session_arguments.daily_type() is session_arguments.DailySessionArguments
    assert "pipecatcloud" not in sys.modules
