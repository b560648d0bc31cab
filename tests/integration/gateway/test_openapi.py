"""The document of the API, and a gateway that keeps to it whatever is asked."""

import asyncio
import sys
from pathlib import Path

import pytest

from support.gateway import Gateway
from support.operated import Operated, get

CONFIG = """
[parameters]
"path.bot" = "bot"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 409, 422]
[[operations]]
include-path = "/v1/public/{bot}/sessions/{id}/{path}"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501, 502, 503]
checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx", 501, 502, 503]
"""
"""404: ids are made up. 409: a start meets one that comes and goes. 422: an Idempotency-Key is used again.

What a bot answers is its own, and the scripted one knows GET only (501). 503: it has not joined; 502: it has ended.
"""
EXCEPT = "use_after_free"
"""A session that is stopped stays to be read, as on Pipecat Cloud."""
TAKES_S = 540.0


@pytest.mark.timeout(TAKES_S + 60)
async def test_whatever_the_document_allows_and_more_is_answered_as_it_says(
    gateway: Gateway, operated: Operated, tmp_path: Path
):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
        *("--checks", "all", "--exclude-checks", EXCEPT, "--max-examples", "12", "--generation-deterministic"),
        *("--no-color", "--workers", "1"),
        *("--request-timeout", "30", "--suppress-health-check", "all"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), TAKES_S)
    assert process.returncode == 0, out.decode()
    assert operated.items("botsessions"), out.decode()
    assert "defect" not in gateway.child.log()


async def test_the_documents_for_people_load_nothing(alone: Gateway):
    status, page = await asyncio.to_thread(get, f"{alone.url}/docs")
    assert status == 200
    assert [word for word in ("<script", "src=", "@import", "url(") if word in page] == []
    assert "/v1/public/{bot}/start" in page
    async with alone.http.get("/docs") as answer:
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
