"""Three replicas of the gateway on one control plane, with API keys."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import until, wait_until
from support.gateway import Gateway, Keys, bearer, gateway_account, gateway_behind
from support.operated import Child, Operated, get
from support.proxy import Call, Fault, Late, Ledger, kubernetes_proxy

START = "/v1/public/bot/start"
CREATE = '{"createDailyRoom": true}'
WAIT_S = 60.0
BOUND = 5
PATIENT = {"PIPECAT_GATEWAY_DRAIN_SECONDS": "60"}

Answer = tuple[int, dict[str, Any]]
Replicas = Callable[[], Awaitable[list[Gateway]]]


@pytest.fixture
def crowd(cluster: Cluster, kwok_namespace: str, daily: Child, tmp_path: Path) -> Iterator[Operated]:
    """A namespace with a Bot and no operator yet; kwok plays the pods, for there are many."""
    of = Operated(cluster, kwok_namespace, daily, tmp_path)
    of.bot()
    yield of
    of.close()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A folder without keys yet."""
    return Keys(tmp_path)


@pytest.fixture
async def replicas(crowd: Operated, keys: Keys, tmp_path: Path) -> AsyncIterator[Replicas]:
    """Starts three, once the keys are there."""
    made: list[Gateway] = []

    async def three() -> list[Gateway]:
        settings = {**PATIENT, "PIPECAT_GATEWAY_KEYS": str(keys.folder)}
        for number in range(3):
            made.append(await asyncio.to_thread(Gateway, crowd, tmp_path / f"gateway-{number}.log", **settings))
        return made

    yield three
    for gateway in made:
        await gateway.close()


def started(
    gateway: Gateway, key: dict[str, str], once: str | None = None, bot: str = "bot", query: str = ""
) -> asyncio.Task[Answer]:
    """One start. ``once``: its Idempotency-Key."""
    headers = {**key, **({"Idempotency-Key": f'"{once}"'} if once else {})}
    return asyncio.create_task(gateway.call("POST", f"/v1/public/{bot}/start{query}", CREATE, headers=headers))


def uids(of: Operated, bot: str = "bot") -> list[str]:
    """Of the Bot's sessions that there are."""
    return [s["metadata"]["uid"] for s in of.items("botsessions") if s["spec"]["botRef"]["name"] == bot]


async def until_there(of: Operated, count: int, bot: str = "bot") -> list[str]:
    """The UIDs of that Bot's sessions, once there are so many."""
    there = lambda: found if len(found := uids(of, bot)) >= count else []  # noqa: E731
    return await asyncio.to_thread(wait_until, f"{count} sessions", there, WAIT_S)


def starts_of(gateway: Gateway, outcome: str) -> float:
    """How many it counted, of every Bot."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in get(f"{gateway.url}/metrics")[1].splitlines()
        if line.startswith("pipecat_gateway_starts_total{") and f'outcome="{outcome}"' in line
    )


async def test_every_start_is_answered_once_and_nobody_leaves_a_session_behind(
    replicas: Replicas, crowd: Operated, keys: Keys
):
    """Beside callers who go away before their bots can come."""
    count, leaving = 60, 15
    crowd.bot("nowhere", podTemplate={"spec": {"nodeSelector": {"there": "is-none"}}})
    tenants = [
        bearer(keys.add("acme-web", "public", tenant="acme")),
        bearer(keys.add("globex-web", "public", tenant="globex")),
    ]
    three = await replicas()
    crowd.start()
    staying = [started(three[number % 3], tenants[number % 2]) for number in range(count)]
    gone = [started(three[n % 3], tenants[n % 2], bot="nowhere", query="?wait=joined") for n in range(leaving)]
    answers = await asyncio.gather(*staying)
    left = await until_there(crowd, leaving, "nowhere")
    for asking in gone:
        asking.cancel()
    await asyncio.gather(*gone, return_exceptions=True)

    assert [status for status, _ in answers] == [200] * count
    told = [answer["sessionId"] for _, answer in answers]
    assert len({answer["dailyToken"] for _, answer in answers}) == count
    assert sorted(told) == sorted(uids(crowd))
    assert [starts_of(gateway, "ok") for gateway in three] == [count / 3] * 3
    assert len(left) == leaving

    def ended() -> bool:
        reasons = {s["metadata"]["uid"]: s.get("status", {}).get("endReason") for s in crowd.items("botsessions")}
        return {uid for uid, reason in reasons.items() if reason == "Stopped"} == set(left)

    await asyncio.to_thread(wait_until, "theirs to be stopped, and no other", ended, WAIT_S)


async def test_starts_of_a_replica_that_is_killed_are_found_again_at_the_others(
    replicas: Replicas, crowd: Operated, keys: Keys, tmp_path: Path
):
    """Half of them before their create reached the API server, half after it was carried out and not answered."""
    count, never, ledger = 8, asyncio.Event(), Ledger()
    key = bearer(keys.add("web", "public"))
    others = await replicas()

    def creates() -> int:
        return sum(call.method == "POST" and call.path.endswith("/botsessions") for call in ledger.calls)

    def rule(call: Call) -> Fault | Late | None:
        if call.method != "POST" or not call.path.endswith("/botsessions"):
            return None
        return Late(until=never) if creates() <= count // 2 else Fault(held=never)

    async with kubernetes_proxy(gateway_account(crowd).login(), ledger) as proxy:
        doomed = await gateway_behind(proxy, crowd, tmp_path, PIPECAT_GATEWAY_KEYS=str(keys.folder))
        ledger.rule = rule
        lost = [started(doomed, key, f"try-{number}") for number in range(count)]
        await asyncio.to_thread(wait_until, "every create to be asked for", lambda: creates() == count, WAIT_S)
        made = await until_there(crowd, count // 2)
        doomed.child.stop(kill=True)
        ends = await asyncio.gather(*lost, return_exceptions=True)
    assert all(isinstance(end, Exception) for end in ends), "none was answered"
    assert len(made) == count // 2

    crowd.start()
    again = [started(others[n % 3], key, f"try-{n}") for n in range(count)]
    answers = await asyncio.gather(*again)
    assert [status for status, _ in answers] == [200] * count
    told = [answer["sessionId"] for _, answer in answers]
    assert set(made) < set(told)
    assert sorted(told) == sorted(uids(crowd))
    assert await asyncio.gather(*(started(others[(n + 1) % 3], key, f"try-{n}") for n in range(count))) == answers
    assert not [s for s in crowd.items("botsessions") if s["spec"].get("stop")]
    await doomed.close()


async def test_a_replica_that_is_told_to_end_answers_its_starts(replicas: Replicas, crowd: Operated, keys: Keys):
    """While the others go on."""
    key = bearer(keys.add("web", "public"))
    ending, *others = three = await replicas()
    starts = [started(three[number % 3], key) for number in range(30)]
    await until_there(crowd, 30)
    os.kill(ending.child.pid, signal.SIGTERM)
    closed = lambda: get(f"{ending.url}/healthz")[0] == 0  # noqa: E731
    await asyncio.to_thread(wait_until, "it to take no more", closed, WAIT_S)
    starts += [started(others[number % 2], key) for number in range(10)]
    await until_there(crowd, 40)
    assert ending.child.ended() is None
    crowd.start()
    answers = await asyncio.gather(*starts)
    assert [status for status, _ in answers] == [200] * 40
    assert sorted(answer["sessionId"] for _, answer in answers) == sorted(uids(crowd))
    await asyncio.to_thread(wait_until, "its end", lambda: ending.child.ended() == 0, WAIT_S)
    assert not [s for s in crowd.items("botsessions") if s["spec"].get("stop")]


@pytest.mark.parametrize("of", ["bot", "key"])
async def test_exactly_as_many_as_may_be_whoever_starts_them(replicas: Replicas, crowd: Operated, keys: Keys, of: str):
    """Three gateways and eight kubectls, all at once."""
    plain: dict[str, Any] = {}
    if of == "bot":
        crowd.bot(capacity={"maxSessions": BOUND})
        key = bearer(keys.add("web", "public"))
    else:
        key = bearer(keys.add("web", "public", maxSessions=BOUND))
        plain = {"quota": {"group": "web", "maxSessions": BOUND}}
    free = bearer(keys.add("free", "public"))
    crowd.bot("other")
    three = await replicas()
    crowd.start()
    with ThreadPoolExecutor(8) as kubectls:
        applied = [kubectls.submit(crowd.session, f"s{number}", **plain) for number in range(8)]
        answers = await asyncio.gather(*(started(three[number % 3], key) for number in range(24)))
        by_kubectl = {session.result() for session in applied}

    def decided() -> dict[str, str]:
        """Of every session that is there, how it is: those that gateways refuse they delete."""
        found = {s["metadata"]["uid"]: s.get("status", {}) for s in crowd.items("botsessions")}
        ways = {uid: str(status.get("endReason") or status.get("phase")) for uid, status in found.items()}
        return ways if set(ways.values()) <= {"Running", "CapacityReached"} else {}

    ways = await asyncio.to_thread(wait_until, "all to be decided", decided, WAIT_S)
    running = {uid for uid, way in ways.items() if way == "Running"}
    admitted = {answer["sessionId"] for status, answer in answers if status == 200}
    refused = [answer for status, answer in answers if status != 200]
    assert len(running) == BOUND
    assert admitted == running - by_kubectl
    assert {uid for uid, way in ways.items() if way == "CapacityReached"} == by_kubectl - running
    assert len(refused) == len(answers) - len(admitted)
    assert all((each["code"], each["status"]) == ("429", 429) for each in refused)
    assert len([room for room in crowd.rooms() if room[-36:] in ways]) == BOUND

    async with three[1].http.post(START, data=CREATE, headers=key) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
    # The bound is the Bot's, or the key's, and nobody else's.
    assert (await started(three[0], free, bot="other"))[0] == 200
    assert (await started(three[0], free))[0] == (429 if of == "bot" else 200)
    crowd.kubectl("delete", "botsession", name_of(crowd, running.pop()))
    assert (await started(three[2], key))[0] == 200


async def test_one_tenant_sees_reads_and_stops_nothing_of_another(replicas: Replicas, crowd: Operated, keys: Keys):
    """Also of those that another replica made, and of those that no gateway made."""
    tenants = {name: bearer(keys.add(f"{name}-ops", "private", tenant=name)) for name in ("acme", "globex")}
    three = await replicas()
    crowd.start()
    plain = crowd.session()
    # The same Idempotency-Key of another API key is another one.
    both = [started(three[0], key, "mine") for key in tenants.values()]
    answers = await asyncio.gather(*both)
    assert [status for status, _ in answers] == [200, 200]
    of = {name: answer["sessionId"] for name, (_, answer) in zip(tenants, answers, strict=True)}
    assert len({plain, *of.values()}) == 3
    for gateway in three:
        for root in ("/v1/agents/bot", "/v1/organizations/globex/services/bot"):
            for name, key in tenants.items():
                # Its watch may be behind that of who made it.
                listed = await until("its own session", lister(gateway, f"{root}/sessions", key), WAIT_S)
                assert listed == [of[name]]
        for name, key in tenants.items():
            others = {plain, *of.values()} - {of[name]}
            for uid in others:
                for path in (f"/v1/agents/bot/sessions/{uid}", f"/sessions/{uid}"):
                    for method in ("GET", "DELETE"):
                        status, body = await gateway.call(method, path, headers=key)
                        assert (status, body["error"]) == (404, f"There is no session {uid!r}.")
            assert (await gateway.call("GET", f"/sessions/{of[name]}", headers=key))[0] == 200
    assert not [s for s in crowd.items("botsessions") if s["spec"].get("stop")]
    status, body = await three[2].call("DELETE", f"/v1/agents/bot/sessions/{of['acme']}", headers=tenants["acme"])
    assert (status, body["session_id"]) == (200, of["acme"])
    await asyncio.to_thread(crowd.until_ended, name_of(crowd, of["acme"]))
    stopped = [s["metadata"]["uid"] for s in crowd.items("botsessions") if s["spec"].get("stop")]
    assert stopped == [of["acme"]]


def lister(gateway: Gateway, path: str, key: dict[str, str]) -> Callable[[], Awaitable[list[str]]]:
    """Asks for the ids of a list."""

    async def listed() -> list[str]:
        status, body = await gateway.call("GET", path, headers=key)
        assert status == 200, json.dumps(body)
        return [session["sessionId"] for session in body["sessions"]]

    return listed


def name_of(of: Operated, uid: str) -> str:
    """Of the session."""
    (name,) = [s["metadata"]["name"] for s in of.items("botsessions") if s["metadata"]["uid"] == uid]
    return str(name)
