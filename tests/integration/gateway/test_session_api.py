"""Pipecat Cloud's documented Session API example: its calls, its answers, and what it says of sessions."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pipecat_local.processes import until
from support.gateway import NOBODY, UP_S, Gateway, Keys, bearer
from support.operated import REAL, Operated

DOCUMENTED = Path(__file__).parents[1] / "bot" / "bots" / "documented.py"
ALICE = {"user_name": "Alice", "preferences": {"language": "Spanish"}}


class Agent:
    """The deployed agent ``my-agent``, asked with a public key as its callers do."""

    def __init__(self, gateway: Gateway, token: str) -> None:
        self._gateway = gateway
        self._headers = bearer(token)

    async def start(self) -> str:
        """A session's id; its bot need not be in the room yet."""
        path = "/v1/public/my-agent/start"
        status, told = await self._gateway.call("POST", path, '{"createDailyRoom": true}', headers=self._headers)
        assert status == 200, told
        return str(told["sessionId"])

    async def ask(self, session: str, method: str, path: str, body: Any = None, key: bool = True) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        url = f"/v1/public/my-agent/sessions/{session}/{path}"
        headers = self._headers if key else {}
        async with self._gateway.http.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def agent(operated: Operated, tmp_path: Path) -> AsyncIterator[Agent]:
    """Deployed."""
    keys = Keys(tmp_path)
    token = keys.add("web", "public", bots=("my-agent",))
    operated.bot("my-agent", image=REAL, env=[{"name": "PIPECAT_BOT_FILE", "value": str(DOCUMENTED)}])
    gateway = Gateway(operated, tmp_path / "gateway.log", PIPECAT_GATEWAY_KEYS=str(keys.folder))
    yield Agent(gateway, token)
    await gateway.close()


async def test_the_documented_session_api_example(agent: Agent, operated: Operated):
    """Each call of it, on the real host in the pod that was made for the start."""
    session = await agent.start()
    assert await agent.ask(session, "GET", "status") == (200, {"message_count": 0, "user_name": None})
    told = {"status": "context updated", "user_name": "Alice"}
    assert await agent.ask(session, "POST", "context", ALICE) == (200, told)
    line = "Hello Alice, welcome back!"
    assert await agent.ask(session, "POST", "speak", {"message": line}) == (200, {"queued": True, "message": line})

    async def reached() -> bool:
        return await agent.ask(session, "GET", "status") == (200, {"message_count": 2, "user_name": "Alice"})

    await until("both to reach the pipeline", reached, UP_S)
    _, messages = await agent.ask(session, "GET", "messages")
    assert [message["role"] for message in messages] == ["developer", "assistant"]
    assert "Alice" in messages[0]["content"]
    assert "Spanish" in messages[0]["content"]
    assert messages[1]["content"] == line
    # Refused by the bot's own model, and passed on as it is.
    status, refused = await agent.ask(session, "POST", "context", {"user_name": "Alice"})
    assert (status, refused["detail"][0]["loc"]) == (422, ["body", "preferences"])

    assert (await agent.ask(session, "GET", "status", key=False))[0] == 401
    for wrong in (NOBODY, "not-an-id"):
        status, told = await agent.ask(wrong, "GET", "status")
        assert (status, told["code"]) == (404, "404")
    (made,) = operated.items("botsessions")
    name = made["metadata"]["name"]
    operated.kubectl("patch", "botsession", name, "--type=merge", "--patch", '{"spec":{"stop":true}}')
    await asyncio.to_thread(operated.until_ended, name)

    async def over() -> bool:
        return (await agent.ask(session, "GET", "status"))[0] == 410

    await until("the gateway to know", over, UP_S)


async def test_each_session_has_a_process_of_its_own(agent: Agent):
    """What one is told another doesn't know, though it begins later."""
    first = await agent.start()
    await agent.ask(first, "POST", "context", ALICE)
    second = await agent.start()
    assert await agent.ask(second, "GET", "status") == (200, {"message_count": 0, "user_name": None})
    _, told = await agent.ask(first, "GET", "status")
    assert told["user_name"] == "Alice"
