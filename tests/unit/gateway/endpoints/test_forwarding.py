"""What goes on to a bot and comes back: header rules, and addresses."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pipecat_gateway.endpoints.forwarding import protocols_of, target, to_bot, to_caller
from pipecat_gateway.sessions.views import Session
from pipecat_gateway.wire.errors import Problem
from pipecat_operator.conditions import Phase

NAMES = st.sampled_from(
    [
        *("Accept", "Cookie", "X-A", "X-B", "Content-Length", "Set-Cookie", "Access-Control-Allow-Origin"),
        *("Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization"),
        *("Host", "Authorization", "Expect", "Sec-WebSocket-Key"),
    ]
)
VALUES = st.binary(max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape")) | NAMES
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
OF_THE_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization"}
PREFIX = "/v1/public/bot/sessions/0b6f0f6e-7a8e-4f0e-9d39-4b6f5a1f0c11"


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    """As a request has them."""
    return CIMultiDictProxy(CIMultiDict(pairs))


def passed(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    """What a bot is told of these."""
    return list(to_bot(headers(*pairs), "u", None, "http").items())


def session(**known: Any) -> Session:
    """One that runs."""
    known = {"phase": Phase.RUNNING, "pod_ip": "10.1.2.3", **known}
    return Session(uid="u", name="s", bot="bot", created_at=datetime(2026, 11, 24, tzinfo=UTC), **known)


def named_by_connection(pairs: list[tuple[str, str]]) -> set[str]:
    """Of one connection only, since it says so."""
    told = [value for name, value in pairs if name == "Connection"]
    return {word.strip().lower() for value in told for word in value.split(",")} - {"content-length"}


@given(HEADERS)
def test_what_is_of_one_connection_and_the_api_key_never_pass(pairs):
    up, down = to_bot(headers(*pairs), "u", "192.0.2.1", "http"), to_caller(headers(*pairs))
    never = OF_THE_HOP | named_by_connection(pairs)
    assert not {name.lower() for name in up} & ((never - {"x-forwarded-for"}) | {"authorization", "host", "expect"})
    assert not {name.lower() for name in down} & (never | {"access-control-allow-origin"})


@given(HEADERS)
def test_all_else_passes_in_order_and_can_be_written(pairs):
    own = OF_THE_HOP | named_by_connection(pairs)
    kept = [name for name, _ in pairs if name.lower() not in own | {"access-control-allow-origin"}]
    down = to_caller(headers(*pairs))
    assert [name for name, _ in down.items()] == kept
    for value in down.values():
        value.encode()


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_utf_8_is_left_as_it_is(value):
    assert passed(("X-A", value))[0] == ("X-A", value)


def test_what_a_connection_names_does_not_hide_how_long_the_body_is():
    assert ("Content-Length", "3") in passed(("Connection", "Content-Length"), ("Content-Length", "3"))


def test_the_length_of_a_body_that_was_unpacked_is_another():
    told = [("Content-Encoding", "GZIP"), ("Content-Length", "3")]
    ours = [("X-Forwarded-Proto", "http"), ("X-Pipecat-Session-Id", "u")]
    assert passed(*told) == ours
    other = [("Content-Encoding", "own"), ("Content-Length", "3")]
    assert passed(*other) == [*other, *ours]


def test_whose_bot_is_meant_is_the_gateways_to_say():
    told = to_bot(headers(("x-pipecat-session-id", "v"), ("X-Pipecat-Session-Id", "w")), "u", None, "http")
    assert told.getall("X-Pipecat-Session-Id") == ["u"]


def test_who_asks_is_told():
    told = to_bot(headers(("Host", "a.test")), "u", "192.0.2.1", "http")
    assert dict(told) == {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "a.test",
        "X-Pipecat-Session-Id": "u",
    }
    before = headers(
        ("X-Forwarded-For", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "b.test"),
        ("Host", "a.test"),
    )
    told = to_bot(before, "u", "192.0.2.1", "http")
    assert told.getall("X-Forwarded-For") == ["1.1.1.1, 2.2.2.2, 192.0.2.1"]
    assert told.getall("X-Forwarded-Proto") == ["https"]
    assert told.getall("X-Forwarded-Host") == ["b.test"]


def test_subprotocols():
    asked = headers(("Sec-WebSocket-Protocol", "a, b"), ("sec-websocket-protocol", ",c"))
    assert protocols_of(asked) == ["a", "b", "c"]
    assert protocols_of(headers()) == []


@given(st.text("ab/.@:%2Fé?#[]\\", max_size=20).map(lambda rest: rest.replace("?", "%3F").replace("#", "%23")))
def test_host_and_port_are_the_pods_whatever_the_path(rest):
    url = target(session(), URL.build(path=f"{PREFIX}/{rest}", query_string="a=%20", encoded=True))
    assert (url.scheme, url.host, url.port, url.user) == ("http", "10.1.2.3", 8080, None)
    assert url.raw_path_qs == f"/{rest}?a=%20"


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::7", "127.64.0.9"])
def test_addresses_that_pods_have(address):
    assert target(session(pod_ip=address), URL(f"{PREFIX}/x")).host == address


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "bot.test",
        "10.1.2.3:80",
        "10.1.2",
        "169.254.169.254",
        "0.0.0.0",
        "fe80::1%eth0",
        "ff02::1",
        "::ffff:169.254.169.254",
    ],
)
def test_addresses_that_they_do_not_have(address):
    with pytest.raises(Problem) as refused:
        target(session(pod_ip=address), URL(f"{PREFIX}/x"))
    assert (refused.value.status, refused.value.code) == (502, "no_routes")


@pytest.mark.parametrize(
    ("known", "status", "code"),
    [
        ({"phase": Phase.ENDING, "pod_ip": None}, 410, "session_over"),
        ({"phase": Phase.SUCCEEDED}, 410, "session_over"),
        ({"phase": Phase.FAILED}, 410, "session_over"),
    ],
)
def test_when_there_is_no_bot_to_ask(known, status, code):
    with pytest.raises(Problem) as refused:
        target(session(**known), URL(f"{PREFIX}/x"))
    assert (refused.value.status, refused.value.code) == (status, code)


def test_one_that_is_ending_is_still_asked():
    assert target(session(phase=Phase.ENDING), URL(f"{PREFIX}/x")).path == "/x"
