"""The command that makes a key."""

import base64
import json
import re
import shlex
from pathlib import Path

import pytest

from pipecat_gateway import newkey
from pipecat_gateway.keys.ring import ring_of

GUIDE = Path(__file__).parents[3] / "docs" / "gateway.md"


def made(capsys, *arguments: str) -> tuple[str, dict]:
    """The token, and the manifest."""
    newkey.main(arguments)
    told = capsys.readouterr()
    return told.err.removesuffix("\n"), json.loads(told.out)


def entries(manifest: dict) -> dict[str, bytes]:
    """As Kubernetes mounts them."""
    return {name: base64.b64decode(value) for name, value in manifest["data"].items()}


def test_what_it_prints_is_a_key(capsys):
    arguments = "--id web --public --bots a,b --tenant t --rate 5 --max-sessions 10 --may-own --may-record"
    token, manifest = made(capsys, *arguments.split())
    assert re.fullmatch(r"pk_web_[\w-]{43}", token)
    ring, wrong = ring_of(entries(manifest))
    assert wrong == []
    key = ring.find(token)
    assert (key.id, key.kind, key.bots, key.tenant) == ("web", "public", {"a", "b"}, "t")
    assert (key.rate, key.max_sessions, key.may_own, key.may_record) == (5, 10, True, True)


def test_the_least(capsys):
    token, manifest = made(capsys, "--id", "ops", "--private", "--secret", "other")
    key = ring_of(entries(manifest))[0].find(token)
    assert (key.id, key.kind, key.bots, key.rate, key.may_own) == ("ops", "private", None, None, False)
    assert manifest["metadata"] == {"name": "other"}
    stored = json.loads(entries(manifest)["ops"])
    assert stored.keys() == {"hash", "kind"}


def test_the_token_is_nowhere_in_the_manifest(capsys):
    token, manifest = made(capsys, "--id", "web", "--public")
    text = json.dumps(manifest) + str(entries(manifest))
    assert token not in text
    assert token.removeprefix("pk_web_") not in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--id web", "--public"),
        ("--public", "--id"),
        ("--id web --public --private", "not allowed with"),
        ("--id Web --public", "--id: the id of a key is"),
        ("--id web --public --bots a,B", "bots: "),
        ("--id web --public --tenant A", "tenant: "),
        ("--id web --public --rate -1", "rate: "),
        ("--id web --public --rate nan", "rate: "),
        ("--id web --public --max-sessions -1", "maxSessions: "),
    ],
)
def test_what_it_refuses(capsys, arguments, told):
    with pytest.raises(SystemExit) as caught:
        newkey.main(arguments.split())
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert told in printed.err
    assert printed.out == ""
    assert not re.search(r"[ps]k_", printed.err)


def test_the_guides_commands_are_ones_that_it_takes(capsys):
    text = GUIDE.read_text().replace("\\\n", " ")
    typed = re.findall(r"python -m pipecat_gateway\.newkey (--[^|\n]+)\|\s*([^\n]*)", text)
    assert typed
    for arguments, applied in typed:
        made(capsys, *shlex.split(arguments))
        (key_id,) = re.findall(r"--id (\S+)", arguments)
        assert f"--field-manager key-{key_id} " in applied
