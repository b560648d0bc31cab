"""Pipecat's own client library for JavaScript, as published, under node: it starts bots with a public key."""

import asyncio
import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jwt
import pytest

from pipecat_local.assets import cache_folder
from support.gateway import UP_S, Keys, with_keys
from support.operated import Operated

CLIENT = Path(__file__).parent / "javascript"
PACKAGES = ("package.json", "package-lock.json")
HINT = "Node.js 20 or newer with npm is needed: apt-get install nodejs npm, or as https://nodejs.org says."
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
INSTALL_S = 120.0
REFUSED = [
    ("stranger", "bot", {"createDailyRoom": True}, 401, "Unauthorized"),
    ("web", "bot", {"createDailyRoom": True, "dailyMeetingTokenProperties": {"is_owner": True}}, 403, "Forbidden"),
    ("web", "nobody", {"createDailyRoom": True}, 404, "Not Found"),
    ("bound", "bot", {"createDailyRoom": True}, 404, "Not Found"),
    ("web", "bot", {}, 400, "Bad Request"),
]
"""With which key, which Bot, what is asked; the status, and the only text that the library has for it."""


@pytest.fixture(scope="module")
def packages() -> Path:
    """Where they are, in the versions and with the hashes of the lock file; installed once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.fail(HINT)
    digest = hashlib.sha256(b"".join((CLIENT / name).read_bytes() for name in PACKAGES)).hexdigest()
    folder = cache_folder().parent / f"javascript-{digest[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Another worker may be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            for name in PACKAGES:
                shutil.copy(CLIENT / name, folder)
            ran = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
            if ran.returncode:
                pytest.fail(f"npm got no packages; it needs its registry, once:\n{ran.stderr}")
            (folder / "installed").touch()
    return folder


async def started(packages: Path, endpoint: str, token: str, request: dict[str, Any]) -> dict[str, Any]:
    """What the library answers, and what its Daily transport would join with; or its error."""
    process = await asyncio.create_subprocess_exec(
        *("node", CLIENT / "client.mjs", packages),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    asked = json.dumps({"endpoint": endpoint, "token": token, "request": request}).encode()
    out, said = await asyncio.wait_for(process.communicate(asked), UP_S)
    assert process.returncode == 0, said.decode()[-2000:]
    told: dict[str, Any] = json.loads(out)
    return told


async def test_it_starts_a_bot_and_knows_where_to_go(packages: Path, operated: Operated, tmp_path: Path):
    keys = Keys(tmp_path)
    token = keys.add("web")
    async with with_keys(operated, keys) as gateway:
        request = {"createDailyRoom": True, "body": {"lang": "en"}}
        told = await started(packages, f"{gateway.url}/v1/public/bot/start", token, request)
    answer = told["answer"]
    # The transport hands all of it on to Daily's join: a field more would be one more that is not Daily's.
    assert set(answer) == {"dailyRoom", "dailyToken", "sessionId"}
    assert told["joined"] == {
        "url": answer["dailyRoom"],
        "token": answer["dailyToken"],
        "sessionId": answer["sessionId"],
    }
    (session,) = operated.items("botsessions")
    assert (session["metadata"]["uid"], session["spec"]["body"]) == (answer["sessionId"], {"lang": "en"})
    assert session["metadata"]["labels"]["pipecat.dev/api-key"] == "web"
    assert answer["dailyRoom"] == session["status"]["room"]["url"]
    claims = jwt.decode(answer["dailyToken"], options={"verify_signature": False})
    assert (claims["r"], claims["o"]) == (session["status"]["room"]["name"], False)


async def test_it_tells_the_status_of_a_refusal(packages: Path, idle: Operated, tmp_path: Path):
    idle.bot()
    keys = Keys(tmp_path)
    keys.add("web")
    keys.add("bound", bots=("other",))
    tokens = {**keys.tokens, "stranger": "pk_stranger_0123456789"}
    async with with_keys(idle, keys) as gateway:
        for who, bot, request, status, text in REFUSED:
            told = await started(packages, f"{gateway.url}/v1/public/{bot}/start", tokens[who], request)
            assert told == {"error": {"message": text, "status": status}}
    assert idle.items("botsessions") == []
