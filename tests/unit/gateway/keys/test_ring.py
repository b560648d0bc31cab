"""Keys: which token is whose, what an entry may be, and how often one may start."""

import hmac
import json
import secrets

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipecat_gateway.keys.rates import take
from pipecat_gateway.keys.ring import ANONYMOUS, Entry, KeyRing, anyone, hash_of, new_token, ring_of

IDS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
KINDS = st.sampled_from(["public", "private"])


def stored(token: str, **fields: object) -> bytes:
    """An entry's value."""
    return json.dumps({"hash": hash_of(token), "kind": "public", **fields}).encode()


@given(kinds=st.dictionaries(IDS, KINDS, max_size=6))
def test_each_token_of_any_ring_is_its_own_keys(kinds):
    tokens = {key_id: new_token(key_id, kind) for key_id, kind in kinds.items()}
    ring, wrong = ring_of({key_id: stored(tokens[key_id], kind=kinds[key_id]) for key_id in kinds})
    assert wrong == []
    assert len(ring) == len(kinds)
    for key_id, token in tokens.items():
        found = ring.find(token)
        assert (found.id, found.kind) == (key_id, kinds[key_id])
        assert ring.find(token[:-1]) is None
        assert ring.find(f"{token}x") is None


@given(kinds=st.dictionaries(IDS, KINDS, max_size=6), token=st.text(st.characters()))
def test_no_other_text_is_anybodys_token(kinds, token):
    ring = KeyRing({key_id: Entry(hash=hash_of(new_token(key_id, kind)), kind=kind) for key_id, kind in kinds.items()})
    assert ring.find(token) is None
    for key_id in kinds:
        assert ring.find(f"pk_{key_id}_{token}") is None
        assert ring.find(f"sk_{key_id}") is None


def test_a_token_tells_its_kind_and_its_id_and_is_random():
    first, second = new_token("web-1", "public"), new_token("web-1", "public")
    assert first.startswith("pk_web-1_")
    assert new_token("ops", "private").startswith("sk_ops_")
    assert first != second
    # 32 bytes, in base64.
    assert len(first) - len("pk_web-1_") == 43


@pytest.mark.parametrize("tried", ["pk_web_wrong", "sk_web_wrong", "pk_nobody_wrong", "", "no token"])
def test_whatever_is_tried_one_digest_is_compared_in_constant_time(tried, monkeypatch):
    """A known id or not: how long it takes tells neither the id nor how much of the token is right."""
    compared = []
    compare = hmac.compare_digest

    def counted(one, other):
        compared.append({len(one), len(other)})
        return compare(one, other)

    ring, _ = ring_of({"web": stored(new_token("web", "public"))})
    monkeypatch.setattr(hmac, "compare_digest", counted)
    assert ring.find(tried) is None
    assert compared == [{32}]


def test_an_entry_does_not_make_a_public_token_private():
    token = new_token("web", "public")
    ring, _ = ring_of({"web": stored(token, kind="private")})
    assert ring.find(token) is None


def test_an_entry_under_another_name_is_nobodys():
    token = new_token("web", "public")
    ring, _ = ring_of({"other": stored(token)})
    assert ring.find(token) is None


def test_all_that_an_entry_says():
    token = new_token("web", "public")
    fields = {"bots": ["a", "b"], "tenant": "acme", "rate": 5, "maxSessions": 10, "owner": True, "recording": True}
    ring, wrong = ring_of({"web": stored(token, **fields)})
    assert wrong == []
    key = ring.find(token)
    assert (key.bots, key.tenant, key.rate, key.max_sessions) == (frozenset({"a", "b"}), "acme", 5.0, 10)
    assert (key.may_own, key.may_record) == (True, True)
    assert key.may_use("a")
    assert not key.may_use("c")


def test_what_an_entry_does_not_say():
    token = new_token("web", "public")
    key = ring_of({"web": stored(token)})[0].find(token)
    assert (key.bots, key.tenant, key.rate, key.max_sessions) == (None, "default", None, None)
    assert (key.may_own, key.may_record) == (False, False)
    assert key.may_use("anything")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rat": 5}, "rat: is no field of a key; there are hash, kind, bots, tenant, rate, maxSessions, owner"),
        ({"max_sessions": 5}, "max_sessions: is no field"),
        ({"kind": "both"}, "kind: "),
        ({"bots": "a"}, "bots: "),
        ({"bots": []}, "bots: "),
        ({"bots": ["A"]}, "bots: "),
        ({"bots": ["a\n"]}, "bots: "),
        ({"tenant": "A b"}, "tenant: "),
        ({"tenant": "x" * 64}, "tenant: "),
        ({"rate": 0}, "rate: "),
        ({"rate": "5"}, "rate: "),
        ({"maxSessions": -1}, "maxSessions: "),
        ({"maxSessions": 1.5}, "maxSessions: "),
        ({"owner": 1}, "owner: "),
    ],
)
def test_an_entry_that_is_wrong_is_left_out_by_name_and_field_and_no_other_is(fields, told):
    good, bad = new_token("good", "public"), new_token("bad", "public")
    ring, wrong = ring_of({"bad": stored(bad, **fields), "good": stored(good)})
    assert len(wrong) == 1
    assert wrong[0].startswith(f"entry bad: {told}")
    assert ring.find(bad) is None
    assert ring.find(good)


@pytest.mark.parametrize("value", [b"", b"\xff", b"[1]", b'"x"', b"null", b"{", b"[" * 100_000, b'{"kind": "public"}'])
def test_what_is_no_entry_at_all(value):
    ring, wrong = ring_of({"bad": value})
    assert len(ring) == 0
    assert len(wrong) == 1


@given(value=st.binary() | st.text().map(lambda text: json.dumps({"hash": text, "kind": text}).encode()))
def test_any_value_is_a_key_or_a_complaint(value):
    ring, wrong = ring_of({"web": value})
    assert (len(ring) == 1) == (wrong == [])


def test_a_complaint_holds_no_value():
    token = new_token("web", "public")
    short = hash_of(token)[:-1]
    values = [token.encode(), json.dumps(token).encode(), json.dumps({"hash": token, "kind": token}).encode()]
    values.append(json.dumps({"hash": short, "kind": "public"}).encode())
    for value in values:
        _, wrong = ring_of({"web": value})
        assert wrong
        assert token not in str(wrong)
        assert short not in str(wrong)


@pytest.mark.parametrize("key_id", ["Web", "a_b", "a.b", "-a", "", "x" * 64, "a\n"])
def test_what_can_be_no_id(key_id):
    ring, wrong = ring_of({key_id: stored(new_token("web", "public"))})
    assert len(ring) == 0
    assert "the id of a key is 1 to 63 of a-z, 0-9 and -" in wrong[0]


def test_everybody_may_everything_where_there_are_no_keys():
    assert anyone(secrets.token_urlsafe()) is ANONYMOUS
    assert (ANONYMOUS.kind, ANONYMOUS.bots, ANONYMOUS.rate, ANONYMOUS.max_sessions) == ("private", None, None, None)
    assert (ANONYMOUS.may_own, ANONYMOUS.may_record) == (True, True)


RATES = st.floats(0.001, 1000)


@given(rate=RATES, gaps=st.lists(st.floats(0, 100), max_size=60))
def test_no_more_are_let_through_than_the_rate(rate, gaps):
    bucket, now, taken = None, 0.0, 0
    for gap in gaps:
        now += gap
        bucket, wait_s = take(bucket, rate, now)
        taken += not wait_s
    assert taken <= max(1.0, rate) + now * rate + 1e-6


@given(rate=RATES, gaps=st.lists(st.floats(0, 10), max_size=60), start=st.floats(0, 1e6))
def test_whoever_waits_as_long_as_told_is_let_through(rate, gaps, start):
    bucket, now = None, start
    for gap in gaps:
        now += gap
        bucket, wait_s = take(bucket, rate, now)
        if wait_s:
            bucket, again_s = take(bucket, rate, now + wait_s + 1e-6)
            assert again_s == 0.0
            now += wait_s + 1e-6


@given(rate=RATES)
def test_the_first_is_let_through_and_a_seconds_worth_at_once(rate):
    bucket, taken = None, 0
    for _ in range(2000):
        bucket, wait_s = take(bucket, rate, 5.0)
        if wait_s:
            break
        taken += 1
    assume(taken < 2000)
    assert taken == max(1, int(rate + 1e-9))
