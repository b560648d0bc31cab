"""Bodies of requests as no client would write them: JSON that is odd, deep, too large, or none."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipecat_local.processes import wait_until
from support.hostile import examples

pytestmark = pytest.mark.usefixtures("beside")

ODD = [
    b"-0",
    b"-0.0",
    b"1e308",
    b"1e400",
    b"1E-400",
    b"0.1e1",
    b"9223372036854775808",
    b"123456789012345678901234567890",
    b"1" * 5000,
    b"01",
    b"NaN",
    b"Infinity",
    b"'x'",
    b"tru",
    rb'"\ud800"',
    rb'"\udc00\ud800"',
    rb'"\u0000"',
    rb'"\x"',
    b'"\xff\xfe"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\x00"',
    b'"\n"',
    b'{"a":1,"a":{"b":2}}',
    b'{"a":1,"A":2,"a":3}',
    b'{"__proto__":{"x":1}}',
    b'{"":{"":{"":1}}}',
    b"[" * 100,
    b"[1,]",
    b"{}//",
    b"/**/1",
    b"\xef\xbb\xbf1",
]
LEVELS = [100, 999, 1_000, 4_990, 9_900, 9_997, 10_001, 100_000]
SIZES = [63 * 1024, 64 * 1024, 1_000_000, 1_571_000, 1_600_000, 3_000_000, 3_200_000]
FULL = 1_572_000
"""Bytes of a body that etcd just stores, and then no status any more."""


def deep(levels: int, opening: bytes = b'{"a":', closing: bytes = b"}") -> bytes:
    """So many objects in each other."""
    return opening * levels + b"1" + closing * levels


values = (
    st.sampled_from(ODD)
    | st.lists(st.sampled_from(ODD), max_size=3).map(lambda few: b"[" + b",".join(few) + b"]")
    | st.sampled_from(LEVELS).map(deep)
    | st.sampled_from(LEVELS).map(lambda levels: deep(levels, b"[", b"]"))
    | st.binary(max_size=8)
)


def request(kind: bytes, name: bytes, spec: bytes, first: bytes = b"") -> bytes:
    """The body of a POST."""
    head = b'{"apiVersion":"pipecat.dev/v1alpha1","kind":"%s","metadata":{"name":"%s"}' % (kind, name)
    return head + first + b',"spec":{' + spec + b"}}"


@examples(40)
@given(field=st.sampled_from([b"body", b"room", b"user", b"session", b"stop", b"x"]), value=values)
def test_a_session(ground, field: bytes, value: bytes):
    inner = b'{"a":%s}' % value if field in (b"body", b"room") else value
    ground.bears("botsessions", request(b"BotSession", b"s", b'"botRef":{"name":"good"},"%s":%s' % (field, inner)))


@examples(25)
@given(field=st.sampled_from([b"podTemplate", b"room", b"env", b"resources"]), value=values)
def test_a_bot(ground, field: bytes, value: bytes):
    its_session = request(b"BotSession", b"s", b'"botRef":{"name":"b"}')
    inner = b'{"spec":{"x":%s}}' % value if field == b"podTemplate" else b'{"a":%s}' % value
    ground.bears("bots", request(b"Bot", b"b", b'"image":"x","%s":%s' % (field, inner)), its_session)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("field", [b"body", b"room"])
def test_a_session_of_any_size(ground, field: bytes, size: int):
    value = b'{"a":"%s"}' % (b"x" * size)
    ground.bears("botsessions", request(b"BotSession", b"s", b'"botRef":{"name":"good"},"%s":%s' % (field, value)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "spec", [b'"podTemplate":{"spec":{"x":"%s"}}', b'"env":[{"name":"A","value":"%s"}]'], ids=["podTemplate", "env"]
)
def test_a_bot_of_any_size(ground, spec: bytes, size: int):
    its_session = request(b"BotSession", b"s", b'"botRef":{"name":"b"}')
    ground.bears("bots", request(b"Bot", b"b", b'"image":"x",' + spec % (b"x" * size)), its_session)


def test_a_session_that_leaves_no_room_for_its_status(ground):
    spec = b'"botRef":{"name":"good"},"session":{"ttlSecondsAfterFinished":1},"body":{"a":"%s"}' % (b"x" * FULL)
    with ground.bearing():
        assert ground.create("botsessions", request(b"BotSession", b"full", spec))[0] == 201
        wait_until("its event", lambda: "BodyTooLarge" in dict(ground.operated.events()), 20)
        wait_until("its TTL", lambda: ground.api("GET", f"{ground.root}/botsessions/full")[0] == 404, 20)


@examples(20)
@given(body=st.binary(max_size=30) | st.sampled_from(ODD))
@example(b"")
@example(request(b"BotSession", b"s", b'"botRef":{"name":"good"}', first=b',"spec":{"botRef":{"name":"none"}}'))
@example(request(b"Bot", b"s", b'"botRef":{"name":"good"}'))
def test_no_json(ground, body: bytes):
    ground.bears("botsessions", body)
