"""The same key and request are the same session."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipecat_gateway.sessions import start
from pipecat_gateway.wire import idempotency
from pipecat_gateway.wire.errors import Problem

KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=idempotency.MAX)
STARTS = st.builds(
    start.Start,
    bot=st.sampled_from("ab"),
    body=st.none() | st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
    room=st.dictionaries(st.text(), st.booleans(), max_size=2),
    user=st.dictionaries(st.text(), st.booleans(), max_size=2),
    own_url=st.none() | st.text(max_size=3),
    own_token=st.none() | st.text(max_size=3),
)


def written(key):
    """As a String of Structured Fields."""
    return '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'


@given(key=KEYS, space=st.sampled_from(["", " "]), parameters=st.sampled_from(["", ";a=1", '; a="x;y"; b']))
def test_a_key_is_read_as_it_was_meant(key, space, parameters):
    assert idempotency.key_of([space + written(key) + parameters + space]) == key


def test_no_key_is_none():
    assert idempotency.key_of([]) is None


@pytest.mark.parametrize(
    "headers",
    [
        [""],
        ["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ['""'],
        ['"a'],
        ['"a"b"'],
        ['"a"x'],
        ['"a"; \u00e9'],
        ['"\\a"'],
        ['"\u00e9"'],
        ['"a\tb"'],
        ["?1"],
        ["12"],
        [written("x" * 256)],
        ['"a"', '"b"'],
    ],
)
def test_a_malformed_key_is_a_400(headers):
    with pytest.raises(Problem, match="double quotes") as caught:
        idempotency.key_of(headers)
    assert (caught.value.status, caught.value.code) == (400, "bad_idempotency_key")


@given(one=st.tuples(KEYS, KEYS, KEYS), other=st.tuples(KEYS, KEYS, KEYS))
def test_a_name_is_of_one_api_key_and_one_key(one, other):
    assert re.fullmatch(r"gw-[0-9a-f]{40}", idempotency.name_of(*one))
    assert (idempotency.name_of(*one) == idempotency.name_of(*other)) == (one == other)


@given(one=STARTS, other=STARTS)
def test_a_fingerprint_is_of_all_that_was_asked(one, other):
    prints = [idempotency.fingerprint_of("once", start.asked(each)) for each in (one, other)]
    assert (prints[0] == prints[1]) == (one == other)


def test_a_fingerprint_can_not_be_guessed_from_what_the_session_shows():
    asked = start.asked(start.Start("a", own_url="https://mine", own_token="short"))
    assert idempotency.fingerprint_of("once", asked) != idempotency.fingerprint_of("other", asked)


@given(body=st.dictionaries(st.text(), st.integers(), min_size=2, max_size=5))
def test_the_order_of_a_body_does_not_matter(body):
    turned = dict(reversed(body.items()))
    assume(list(turned) != list(body))
    prints = [idempotency.fingerprint_of("once", start.asked(start.Start("a", each))) for each in (body, turned)]
    assert prints[0] == prints[1]


def test_another_request_is_a_422():
    assert idempotency.mismatch().status == 422
