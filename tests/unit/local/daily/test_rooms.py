"""Daily's rules as the stand-in keeps them."""

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_local.daily.limits import RateLimit
from pipecat_local.daily.rooms import Domain, JoinRefused, Refused

KEY = "a-key-of-at-least-thirty-two-bytes-for-hs256"


class At:
    """A clock that is set."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> At:
    return At()


@pytest.fixture
def domain(clock: At) -> Domain:
    return Domain("test", KEY, "http://x", clock)


def token(domain: Domain, room: str = "r", **claims: object) -> str:
    return jwt.encode({"r": room, "d": domain.id, **claims}, KEY, algorithm="HS256")


def test_a_name_is_taken_once(domain: Domain):
    domain.make({"name": "r"})
    with pytest.raises(Refused) as caught:
        domain.make({"name": "r"})
    assert (caught.value.status, caught.value.body["info"]) == (400, "a room named r already exists")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "no spaces"},
        {"name": "x" * 129},
        {"name": 5},
        {"privacy": "secret"},
        {"properties": {"exp": 1}},
        {"properties": {"eject_at_room_exp": "yes"}},
        {"properties": {"max_participants": True}},
    ],
)
def test_bad_rooms_are_refused(domain: Domain, body: dict):
    with pytest.raises(Refused) as caught:
        domain.make(body)
    assert caught.value.body["error"] == "invalid-request-error"


def test_an_expired_room_is_gone_and_its_name_free(domain: Domain, clock: At):
    domain.make({"name": "r", "properties": {"exp": clock.now + 10}})
    clock.now += 10
    assert domain.rooms() == []
    with pytest.raises(Refused) as caught:
        domain.delete("r")
    assert (caught.value.status, caught.value.body["deleted"]) == (404, True)
    domain.make({"name": "r"})


def test_a_private_room_wants_a_token_of_its_own(domain: Domain):
    domain.make({"name": "r", "privacy": "private"})
    for given_token, says in [
        (None, "not allowed"),
        (token(domain, "other"), "of another room"),
        (token(domain, d="elsewhere"), "of another domain"),
        (token(domain)[:-4] + "AAAA", "not valid"),
        ("nonsense", "not valid"),
    ]:
        with pytest.raises(JoinRefused, match=says):
            domain.admit("r", given_token, 0)
    admitted = domain.admit("r", token(domain, o=True, u="Ada", ud="7"), 0)
    assert (admitted.owner, admitted.user_name, admitted.user_id) == (True, "Ada", "7")


def test_a_public_room_lets_anybody_in_but_nobody_with_a_bad_token(domain: Domain):
    domain.make({"name": "r"})
    assert domain.admit("r", None, 0).owner is False
    with pytest.raises(JoinRefused):
        domain.admit("r", "nonsense", 0)


def test_times(domain: Domain, clock: At):
    domain.make({"name": "r", "properties": {"exp": clock.now + 100, "eject_at_room_exp": True}})
    with pytest.raises(JoinRefused, match="expired"):
        domain.admit("r", token(domain, exp=clock.now), 0)
    with pytest.raises(JoinRefused, match="not valid yet"):
        domain.admit("r", token(domain, nbf=clock.now + 1), 0)
    assert domain.admit("r", token(domain, exp=clock.now + 1), 0).eject_at == clock.now + 100
    assert domain.admit("r", token(domain, exp=clock.now + 1, ejt=True), 0).eject_at == clock.now + 1
    assert domain.admit("r", token(domain, eje=5), 0).eject_at == clock.now + 5
    clock.now += 100
    with pytest.raises(JoinRefused, match="has ended"):
        domain.admit("r", token(domain), 0)


def test_a_full_room(domain: Domain):
    domain.make({"name": "r", "properties": {"max_participants": 2}})
    domain.admit("r", None, 1)
    with pytest.raises(JoinRefused, match="full"):
        domain.admit("r", None, 2)


def test_a_minted_token_says_what_was_asked(domain: Domain):
    asked = {"room_name": "r", "is_owner": True, "user_name": "Ada", "user_id": "7", "exp": 2_000_000}
    claims = domain.claims(domain.mint(asked))
    assert (claims["r"], claims["o"], claims["u"], claims["ud"], claims["exp"]) == ("r", True, "Ada", "7", 2_000_000)


@given(gaps=st.lists(st.floats(0, 1), max_size=300))
def test_no_window_ever_holds_more_than_its_calls(gaps: list[float]):
    clock, allowed = At(), []
    limit = RateLimit([(3, 1.0), (5, 4.0)], clock)
    for gap in gaps:
        clock.now += gap
        if limit.take():
            allowed.append(clock.now)
    for calls, seconds in [(3, 1.0), (5, 4.0)]:
        for first, last in zip(allowed, allowed[calls:], strict=False):
            assert last - first >= seconds
