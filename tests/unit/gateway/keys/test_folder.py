"""Keys in a folder: as Kubernetes mounts a Secret, and as somebody makes one by hand."""

import asyncio
from pathlib import Path

import pytest
from loguru import logger

from pipecat_gateway.keys.folder import POLL_S, KeyFolder
from pipecat_gateway.keys.ring import Entry, hash_of, new_token


class Mounted:
    """A folder as the kubelet keeps it: files through a link that it turns in one step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._turns = 0

    def put(self, **entries: str) -> None:
        """All there is, from now on."""
        data = self.folder / f"..{self._turns}"
        data.mkdir(parents=True)
        self._turns += 1
        for name, text in entries.items():
            (data / name).write_text(text)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        link = self.folder / "..data_tmp"
        link.symlink_to(data.name)
        link.rename(self.folder / "..data")


@pytest.fixture
def mounted(tmp_path) -> Mounted:
    """An empty one."""
    made = Mounted(tmp_path / "keys")
    made.put()
    return made


@pytest.fixture
def lines():
    """What is logged."""
    told: list[str] = []
    sink = logger.add(lambda message: told.append(message.record["message"]))
    yield told
    logger.remove(sink)


def key(key_id: str) -> tuple[str, str]:
    """A token, and its entry."""
    token = new_token(key_id, "public")
    return token, Entry(hash=hash_of(token), kind="public").model_dump_json(by_alias=True)


def test_a_key_comes_and_goes(mounted):
    keys = KeyFolder(mounted.folder)
    keys.refresh()
    first, first_entry = key("first")
    second, second_entry = key("second")
    assert keys.find(first) is None
    for entries, found in [
        ({"first": first_entry}, (True, False)),
        ({"first": first_entry, "second": second_entry}, (True, True)),
        ({"second": second_entry}, (False, True)),
        ({}, (False, False)),
    ]:
        mounted.put(**entries)
        keys.refresh()
        assert (keys.find(first) is not None, keys.find(second) is not None) == found


def test_a_plain_folder_will_do(tmp_path):
    token, entry = key("web")
    keys = KeyFolder(tmp_path)
    keys.refresh()
    (tmp_path / "web").write_text(entry)
    (tmp_path / "folder").mkdir()
    keys.refresh()
    assert keys.find(token).id == "web"
    other, entry = key("web")
    (tmp_path / "web").write_text(entry)
    keys.refresh()
    assert (keys.find(token), keys.find(other).id) == (None, "web")


def test_a_bad_entry_is_told_without_its_value_and_all_others_work(mounted, lines):
    token, entry = key("web")
    bad, _ = key("bad")
    mounted.put(web=entry, bad=bad)
    keys = KeyFolder(mounted.folder)
    keys.refresh()
    keys.refresh()
    assert keys.find(token)
    assert keys.find(bad) is None
    assert lines == ["An API key is left out: entry bad: is not a JSON object", "API keys in force: 1"]


def test_without_a_key_it_says_what_that_means(mounted, lines):
    KeyFolder(mounted.folder).refresh()
    assert lines == ["There is no API key yet: every request is answered 401"]


def test_a_folder_that_cannot_be_read_keeps_what_was_known(mounted, lines):
    token, entry = key("web")
    mounted.put(web=entry)
    keys = KeyFolder(mounted.folder)
    keys.refresh()
    away = mounted.folder.with_name("away")
    mounted.folder.rename(away)
    keys.refresh()
    keys.refresh()
    assert keys.find(token)
    assert len([line for line in lines if "can't be read" in line]) == 1
    away.rename(mounted.folder)
    mounted.put()
    keys.refresh()
    assert keys.find(token) is None


def test_a_link_that_leads_nowhere_keeps_what_was_known(mounted):
    token, entry = key("web")
    mounted.put(web=entry)
    keys = KeyFolder(mounted.folder)
    keys.refresh()
    (mounted.folder / "..data").unlink()
    (mounted.folder / "..data").symlink_to("..gone")
    keys.refresh()
    assert keys.find(token)


async def test_it_looks_every_few_seconds(mounted):
    token, entry = key("web")
    keys = KeyFolder(mounted.folder)
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            assert keys.find(token) is None
            mounted.put(web=entry)
        if len(slept) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await keys.follow(sleep)
    assert slept == [POLL_S] * 3
    assert keys.find(token)
