"""The gateway as a platform team runs it: with API keys."""

import pytest

from e2e.client import FORGED, PRIVATE, PUBLIC, Client, id_of
from pipecat_gateway.sessions.start import LABEL_API_KEY
from support.installed import Installed

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOM = {"createDailyRoom": True}
SESSIONS = "/v1/agents/assistant/sessions"
STARTS = (("/start", {}), ("/start_bot", ROOM), ("/v1/public/assistant/start", ROOM))


def whatever_a_start_makes(installed: Installed) -> set[str]:
    """All there is."""
    made = installed.kubectl("get", "botsessions,jobs,pods,secrets", "-o", "name")
    return {*made.split(), *installed.rooms()}


@pytest.mark.parametrize("key", [None, FORGED])
async def test_without_an_api_key_nothing_is_started(installed: Installed, client: Client, key: str | None):
    before = whatever_a_start_makes(installed)
    for path, body in STARTS:
        status, answer = client.call(key, "POST", path, body)
        assert (status, answer.get("code")) == (401, "401" if path.startswith("/v1/") else "unauthorized")
    assert client.call(key, "GET", SESSIONS)[0] == 401
    assert whatever_a_start_makes(installed) <= before


async def test_a_public_key_starts_and_a_private_one_lists_and_stops(installed: Installed, client: Client):
    uid = client.start("assistant")
    name = installed.name_of(uid)
    assert installed.get("botsession", name)["metadata"]["labels"][LABEL_API_KEY] == id_of("public")
    for method, path in (("GET", SESSIONS), ("GET", f"{SESSIONS}/{uid}"), ("DELETE", f"{SESSIONS}/{uid}")):
        status, answer = client.call(PUBLIC, method, path)
        assert (status, answer.get("code")) == (403, "private_key_required")
    installed.until_phase(name, "Running")
    status, page = client.call(PRIVATE, "GET", SESSIONS)
    assert status == 200
    assert uid in [session["sessionId"] for session in page["sessions"]]
    assert client.call(PRIVATE, "DELETE", f"{SESSIONS}/{uid}")[0] == 200
    assert installed.until_ended(name)["endReason"] == "Stopped"
    installed.delete(name)
