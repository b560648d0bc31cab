"""The host's decisions, without a clock or a process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_bot.ending import EndReason
from pipecat_bot.lifecycle import (
    ABANDON_AT,
    CANCEL_AT,
    EXIT_AT,
    UNJOINED_S,
    BotRaised,
    BotReturned,
    Event,
    HookFailed,
    Joined,
    LeftRoom,
    Limits,
    PipelineFinished,
    PipelineStuck,
    PutOut,
    Speech,
    State,
    Step,
    StopAsked,
    TransportFailed,
    Trouble,
    UserJoined,
    UserLeft,
    after,
    due,
    last_moment,
    says_goodbye,
    wake_at,
)

LIMITS = Limits(max_duration=100, join_timeout=10, idle_timeout=20, grace=30)


def lived(*events: tuple[float, Event]) -> State:
    """The state after these events, every deadline between them noticed."""
    state = State()
    for at, event in events:
        state = after(run_to(state, at), event, at)
    return state


def run_to(state: State, now: float) -> State:
    """Wake whenever asked to, until ``now``."""
    for _ in range(10):
        at = wake_at(state, LIMITS)
        if at is None or at > now:
            return state
        state = due(state, LIMITS, at)
    raise AssertionError("woken again and again")


def reason(state: State) -> EndReason | None:
    """Of its ending."""
    return state.ending.reason if state.ending else None


IN_CALL = ((0.0, Joined()), (1.0, UserJoined("u")))


@pytest.mark.parametrize(
    ("events", "expected", "step"),
    [
        (((5, UserLeft("u")),), EndReason.USER_LEFT, Step.CANCEL),
        (((5, UserJoined("v")), (6, UserLeft("u"))), None, Step.RUN),
        (((5, UserJoined("v")), (6, UserLeft("u")), (7, UserLeft("v"))), EndReason.USER_LEFT, Step.CANCEL),
        (((5, UserLeft("nobody known")),), None, Step.RUN),
        (((5, StopAsked()),), EndReason.STOPPED, Step.FINISH),
        (((5, PutOut()),), EndReason.EJECTED, Step.CANCEL),
        (((5, LeftRoom()), (6, PutOut())), None, Step.RUN),
        (((5, LeftRoom()), (6, StopAsked())), EndReason.STOPPED, Step.CANCEL),
        (((5, TransportFailed("cannot send")),), None, Step.RUN),
        (((5, PipelineFinished(idle=False)),), EndReason.BOT_FINISHED, Step.FINISH),
        (((5, PipelineFinished(idle=True)),), EndReason.IDLE, Step.CANCEL),
        (((5, Trouble("bad key")),), None, Step.RUN),
        (((5, Trouble("bad key")), (6, PipelineFinished(idle=False))), EndReason.BOT_FAILED, Step.CANCEL),
        (((5, Trouble("bad key")), (6, UserLeft("u"))), EndReason.USER_LEFT, Step.CANCEL),
        (((5, PipelineStuck("blocked")),), EndReason.BOT_FAILED, Step.CANCEL),
        (((5, HookFailed("broken")),), EndReason.BOT_FAILED, Step.CANCEL),
        (((5, BotReturned()),), EndReason.BOT_FINISHED, Step.EXIT),
        (((5, BotRaised("boom")),), EndReason.BOT_FAILED, Step.EXIT),
        (((5, StopAsked()), (6, BotRaised("boom"))), EndReason.STOPPED, Step.EXIT),
        (((5, UserLeft("u")), (6, StopAsked())), EndReason.USER_LEFT, Step.CANCEL),
    ],
)
def test_in_a_call(events: tuple[tuple[float, Event], ...], expected: EndReason | None, step: Step) -> None:
    state = lived(*IN_CALL, *events)
    assert (reason(state), state.step) == (expected, step)


def test_goodbye_is_said_to_whoever_is_cut_short() -> None:
    assert says_goodbye(lived(*IN_CALL, (5, StopAsked())))
    talking = State(in_room=True, joined_at=0.0, users=frozenset({"u"}), quiet_since=LIMITS.max_duration - 1)
    assert says_goodbye(due(talking, LIMITS, LIMITS.max_duration))
    assert not says_goodbye(lived((0.0, Joined()), (5, StopAsked()))), "nobody is there"
    assert not says_goodbye(lived(*IN_CALL, (5, UserLeft("u")))), "they left themselves"
    assert not says_goodbye(lived(*IN_CALL))


@pytest.mark.parametrize(
    ("event", "expected", "step"),
    [
        (TransportFailed("no such room"), EndReason.JOIN_FAILED, Step.CANCEL),
        (PipelineStuck("no answer"), EndReason.JOIN_FAILED, Step.CANCEL),
        (StopAsked(), EndReason.STOPPED, Step.CANCEL),
        (HookFailed("broken"), EndReason.BOT_FAILED, Step.CANCEL),
        (PipelineFinished(idle=False), EndReason.BOT_FAILED, Step.CANCEL),
        (BotReturned(), EndReason.BOT_FAILED, Step.EXIT),
        (BotRaised("boom"), EndReason.BOT_FAILED, Step.EXIT),
        (Speech(), None, Step.RUN),
    ],
)
def test_before_joining(event: Event, expected: EndReason | None, step: Step) -> None:
    state = lived((3, event))
    assert (reason(state), state.step) == (expected, step)


def test_deadlines() -> None:
    """Nobody came; nobody spoke; it took too long: each at its moment, not before."""
    assert wake_at(State(), LIMITS) is None
    alone = lived((5, Joined()))
    assert wake_at(alone, LIMITS) == 15
    assert due(alone, LIMITS, 14.9) == alone
    assert reason(due(alone, LIMITS, 15)) is EndReason.NO_SHOW
    quiet = lived((5, Joined()), (6, UserJoined("u")), (20, Speech()))
    assert reason(due(quiet, LIMITS, 39.9)) is None
    assert reason(due(quiet, LIMITS, 40)) is EndReason.IDLE
    talking = lived((5, Joined()), (6, UserJoined("u")), *((float(at), Speech()) for at in range(10, 100, 10)))
    over = due(talking, LIMITS, 105)
    assert (reason(over), over.step) == (EndReason.MAX_DURATION, Step.FINISH)


def test_the_earlier_of_two_missed_deadlines_counts() -> None:
    """A host that was held up."""
    assert reason(due(lived((0, Joined())), LIMITS, 1000)) is EndReason.NO_SHOW


def test_the_ladder() -> None:
    """A bot that does not end is pressed step by step, each within the grace."""
    state = lived(*IN_CALL, (10, StopAsked()))
    for step, part in ((Step.CANCEL, CANCEL_AT), (Step.ABANDON, ABANDON_AT), (Step.EXIT, EXIT_AT)):
        at = 10 + part * LIMITS.grace
        assert wake_at(state, LIMITS) == at
        state = due(state, LIMITS, at)
        assert state.step is step
    assert wake_at(state, LIMITS) is None
    assert EXIT_AT < 1


def test_a_bot_that_never_joined_gets_less_time() -> None:
    moment = last_moment(lived((10, StopAsked())), LIMITS)
    assert moment
    assert moment[0] == 10 + EXIT_AT * UNJOINED_S
    assert run_to(lived((10, StopAsked())), 10 + UNJOINED_S).step is Step.EXIT


def test_the_last_moment() -> None:
    """What the watchdog is set to: none before joining, then behind the maximum, then within the grace."""
    assert last_moment(State(), LIMITS) is None
    moment = last_moment(lived((5, Joined())), LIMITS)
    assert moment
    assert moment[0] == 5 + 100 + EXIT_AT * 30
    assert moment[1].reason is EndReason.MAX_DURATION
    moment = last_moment(lived((5, Joined()), (7, StopAsked())), LIMITS)
    assert moment
    assert moment[0] == 7 + EXIT_AT * 30
    assert moment[1].reason is EndReason.STOPPED


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.sampled_from(
        [
            Joined(),
            TransportFailed("x"),
            LeftRoom(),
            PutOut(),
            Speech(),
            Trouble("x"),
            PipelineStuck("x"),
            PipelineFinished(idle=False),
            PipelineFinished(idle=True),
            HookFailed("x"),
            BotReturned(),
            BotRaised("x"),
            StopAsked(),
        ]
    ),
    st.builds(UserJoined, st.sampled_from("abc")),
    st.builds(UserLeft, st.sampled_from("abc")),
)


@given(st.lists(st.tuples(st.floats(0, 30), EVENTS), max_size=30))
def test_any_order_of_events(gaps: list[tuple[float, Event]]) -> None:
    """One reason, never changed; no step back; and every session that joined, or was ended, is over in time."""
    state, now = State(), 0.0
    for gap, event in gaps:
        now += gap
        before = run_to(state, now)
        state = after(before, event, now)
        assert before.ending is None or state.ending == before.ending
        assert before.ending_since is None or state.ending_since == before.ending_since
        assert state.step >= before.step
        assert (state.ending is None) == (state.step is Step.RUN) == (state.ending_since is None)
        if isinstance(event, StopAsked | BotReturned | BotRaised | HookFailed):
            assert state.ending is not None
    if state.joined_at is not None:
        end = run_to(state, state.joined_at + LIMITS.max_duration + LIMITS.grace)
        assert end.step is Step.EXIT
    if state.ending_since is not None:
        assert run_to(state, state.ending_since + LIMITS.grace).step is Step.EXIT
        moment = last_moment(state, LIMITS)
        assert moment
        assert moment[0] < state.ending_since + LIMITS.grace
