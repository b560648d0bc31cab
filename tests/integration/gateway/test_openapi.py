"""The document of the API, and a gateway that keeps to it whatever is asked."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from support.gateway import Gateway, Keys, bearer, with_keys
from support.operated import Operated, get

CONFIG = """
[auth.openapi.apiKey]
bearer = "${TOKEN}"
[parameters]
"path.bot" = "bot"
"path.id" = "LIVE"
[checks.use_after_free]
enabled = false
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 409, 422]
[[operations]]
include-operation-id-regex = "^delete_.*sessions_id$"
parameters."path.id" = "STOPPED"
[[operations]]
include-path = ["/openapi.json", "/docs", "/healthz", "/readyz", "/metrics"]
headers = { Authorization = "Bearer ${TOKEN}" }
[[operations]]
include-path = "/v1/public/{bot}/sessions/{id}/{path}"
checks.unsupported_method.enabled = false
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501, 503]
checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx", 501, 503]
"""
"""All checks, save that a stopped session is gone: it stays to be read, as on Pipecat Cloud.

LIVE is left alone, STOPPED is what is stopped. 409: a start meets one that comes and goes. 422: an Idempotency-Key is
used again. Without the key nobody learns which methods there are of what is open to all. What a bot answers is its
own, to any method, and the scripted one knows GET only (501) and has nothing to say (503).
"""
TAKES_S = 300.0


@pytest.mark.timeout(TAKES_S + 60)
async def test_whatever_the_document_allows_and_more_is_answered_as_it_says(operated: Operated, tmp_path: Path):
    keys = Keys(tmp_path)
    token = keys.add("ops", "private", owner=True, recording=True)
    async with with_keys(operated, keys) as gateway:
        live, stopped = [await joined(gateway, token) for _ in range(2)]
        (tmp_path / "schemathesis.toml").write_text(CONFIG.replace("LIVE", live).replace("STOPPED", stopped))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
            *("--max-examples", "12", "--generation-deterministic", "--no-color", "--workers", "1"),
            *("--request-timeout", "30", "--suppress-health-check", "all"),
            cwd=tmp_path,
            env={**os.environ, "TOKEN": token},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), TAKES_S)
        log = gateway.child.log()
        assert process.returncode == 0, out.decode()
        assert "defect" not in log
        # It really asked for what is there, and without the key as well.
        for method, uid in (("GET", live), ("DELETE", stopped)):
            for root in ("", "/v1/agents/bot", "/v1/organizations/[^/ ]+/services/bot"):
                for told in ("ops {} 200 ok", "- {} 401 unauthorized"):
                    assert re.search(told.format(f"{method} {root}/sessions/{uid}"), log)


async def joined(gateway: Gateway, token: str) -> str:
    """A session whose bot is in the room."""
    asked = ("POST", "/v1/public/bot/start?wait=joined", '{"createDailyRoom": true}')
    uid: str = (await gateway.call(*asked, headers=bearer(token)))[1]["sessionId"]
    return uid


async def test_the_documents_for_people_load_nothing(alone: Gateway):
    status, page = await asyncio.to_thread(get, f"{alone.url}/docs")
    assert status == 200
    assert [word for word in ("<script", "src=", "@import", "url(") if word in page] == []
    assert "/v1/public/{bot}/start" in page
    async with alone.http.get("/docs") as answer:
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
