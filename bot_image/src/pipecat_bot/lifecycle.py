"""What a session's host does next: events and the clock in, a step out. Pure; times are seconds of one clock.

Everybody in the room but the bot counts as a user, as for Pipecat's ``on_client_connected``; Daily tells nobody of
hidden participants, so those don't. The session ends when the last user leaves: Daily reports that after it has
ridden out a lost network, and Pipecat's own bots end on it too, so nobody is waited for to come back.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from pipecat_bot.ending import Ending, EndReason


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one session, in seconds. ``max_duration`` counts from joining, ``grace`` from the end's beginning."""

    max_duration: float
    join_timeout: float
    idle_timeout: float
    grace: float


class Step(IntEnum):
    """How far a session is. It only ever goes on to a later step."""

    RUN = 0
    FINISH = 1
    """Let the bot say what it is saying, then end its pipeline."""
    CANCEL = 2
    """End the pipeline at once."""
    ABANDON = 3
    """Cancel ``bot()`` itself."""
    EXIT = 4
    """Nothing is left to wait for, or no time."""


CANCEL_AT: Final = 0.5
ABANDON_AT: Final = 0.7
EXIT_AT: Final = 0.9
"""When each step is due, as a part of the grace: SIGKILL comes at 1."""

UNJOINED_S: Final = 5.0
"""The most of the grace that goes to a bot that never was in the room: it has nobody to say goodbye to."""

_POLITE: Final = {EndReason.MAX_DURATION, EndReason.STOPPED, EndReason.IDLE}
"""Ends that leave the pipeline time to say what it is saying."""
_CUT_SHORT: Final = {EndReason.MAX_DURATION, EndReason.STOPPED}
"""Ends that whoever listens may not expect."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The bot is in the room."""


@dataclass(frozen=True, slots=True)
class TransportFailed:
    """The transport reported an error. Before joining it means that the bot will never be there."""

    message: str


@dataclass(frozen=True, slots=True)
class LeftRoom:
    """The bot is leaving the room because its pipeline ends."""


@dataclass(frozen=True, slots=True)
class PutOut:
    """The call is over for the bot: by others, unless it was leaving."""


@dataclass(frozen=True, slots=True)
class UserJoined:
    """Somebody came."""

    participant: str


@dataclass(frozen=True, slots=True)
class UserLeft:
    """Somebody left."""

    participant: str


@dataclass(frozen=True, slots=True)
class Speech:
    """A user or the bot is speaking."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part of the pipeline can no longer do its job. Whether the bot goes on without it is the bot's affair."""

    message: str


@dataclass(frozen=True, slots=True)
class PipelineStuck:
    """The pipeline did not get going."""

    message: str


@dataclass(frozen=True, slots=True)
class PipelineFinished:
    """The pipeline that was in the room ended. ``idle``: by Pipecat's own idle timeout."""

    idle: bool


@dataclass(frozen=True, slots=True)
class HookFailed:
    """A setup hook failed, the host's or one of the bot author's."""

    message: str


@dataclass(frozen=True, slots=True)
class BotReturned:
    """``bot()`` came to its end."""


@dataclass(frozen=True, slots=True)
class BotRaised:
    """``bot()`` raised."""

    message: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGTERM."""


Event = (
    Joined
    | TransportFailed
    | LeftRoom
    | PutOut
    | UserJoined
    | UserLeft
    | Speech
    | Trouble
    | PipelineStuck
    | PipelineFinished
    | HookFailed
    | BotReturned
    | BotRaised
    | StopAsked
)


@dataclass(frozen=True, slots=True)
class State:
    """A session, as far as its host knows it."""

    step: Step = Step.RUN
    in_room: bool = False
    joined_at: float | None = None
    users: frozenset[str] = field(default_factory=frozenset)
    quiet_since: float | None = None
    """None until the first user came."""
    trouble: str | None = None
    ending: Ending | None = None
    ending_since: float | None = None


def after(state: State, event: Event, now: float) -> State:
    """The state once ``event`` has happened."""
    before, state = state, _noted(state, event, now)
    if isinstance(event, BotReturned | BotRaised):
        return replace(_ended(state, _own_end(state, event), now), step=Step.EXIT)
    ending = _consequence(before, event, state)
    return _ended(state, ending, now) if ending else state


def _noted(state: State, event: Event, now: float) -> State:
    match event:
        case Joined():
            return replace(state, in_room=True, joined_at=now if state.joined_at is None else state.joined_at)
        case LeftRoom() | PutOut() | PipelineFinished():
            return replace(state, in_room=False)
        case UserJoined(participant):
            return replace(state, users=state.users | {participant}, quiet_since=now)
        case UserLeft(participant):
            return replace(state, users=state.users - {participant})
        case Speech() if state.quiet_since is not None:
            return replace(state, quiet_since=now)
        case Trouble(message) if state.trouble is None:
            return replace(state, trouble=message)
    return state


def _consequence(before: State, event: Event, state: State) -> Ending | None:
    match event:
        case TransportFailed(message) if state.joined_at is None:
            return Ending(EndReason.JOIN_FAILED, message)
        case PutOut() if before.in_room:
            return Ending(EndReason.EJECTED, "The bot was ejected, or the room was closed.")
        case UserLeft() if before.users and not state.users:
            return Ending(EndReason.USER_LEFT, "The last user left.")
        case PipelineStuck(message):
            failed = EndReason.JOIN_FAILED if state.joined_at is None else EndReason.BOT_FAILED
            return Ending(failed, message)
        case PipelineFinished(idle=True):
            return Ending(EndReason.IDLE, "Pipecat's own idle timeout ended the pipeline.")
        case PipelineFinished():
            return _own_end(state, event)
        case HookFailed(message):
            return Ending(EndReason.BOT_FAILED, message)
        case StopAsked():
            return Ending(EndReason.STOPPED, "The session was asked to stop.")
    return None


def _own_end(state: State, event: BotReturned | BotRaised | PipelineFinished) -> Ending:
    if isinstance(event, BotRaised):
        return Ending(EndReason.BOT_FAILED, event.message)
    if state.trouble is not None:
        return Ending(EndReason.BOT_FAILED, state.trouble)
    if state.joined_at is None:
        return Ending(EndReason.BOT_FAILED, "The bot ended without having joined the room.")
    return Ending(EndReason.BOT_FINISHED, "The bot ended the conversation.")


def _ended(state: State, ending: Ending, now: float) -> State:
    if state.ending is not None:
        return state
    # A bot that has hung up may still have things to do, such as storing what was said.
    patient = ending.reason is EndReason.BOT_FINISHED or (ending.reason in _POLITE and state.in_room)
    step = Step.FINISH if patient else Step.CANCEL
    return replace(state, ending=ending, ending_since=now, step=step)


def says_goodbye(state: State) -> bool:
    """Whether somebody is there to be told that the call ends."""
    return state.ending is not None and state.ending.reason in _CUT_SHORT and bool(state.users)


def due(state: State, limits: Limits, now: float) -> State:
    """The state once everything that is due by ``now`` has been noticed."""
    if state.ending_since is not None:
        steps = [step for step, part in _LADDER if now >= state.ending_since + part * _grace(state, limits)]
        return replace(state, step=max(state.step, *steps)) if steps else state
    for at, ending in _deadlines(state, limits):
        if now >= at:
            return _ended(state, ending, now)
    return state


_LADDER: Final = ((Step.CANCEL, CANCEL_AT), (Step.ABANDON, ABANDON_AT), (Step.EXIT, EXIT_AT))


def _grace(state: State, limits: Limits) -> float:
    return limits.grace if state.joined_at is not None else min(limits.grace, UNJOINED_S)


def _deadlines(state: State, limits: Limits) -> list[tuple[float, Ending]]:
    """Soonest first."""
    if state.joined_at is None:
        return []
    spoken = f"{limits.max_duration:g} s"
    found = [(state.joined_at + limits.max_duration, Ending(EndReason.MAX_DURATION, f"The session lasted {spoken}."))]
    if state.quiet_since is None:
        message = f"Nobody came within {limits.join_timeout:g} s."
        found.append((state.joined_at + limits.join_timeout, Ending(EndReason.NO_SHOW, message)))
    else:
        message = f"Nobody spoke for {limits.idle_timeout:g} s."
        found.append((state.quiet_since + limits.idle_timeout, Ending(EndReason.IDLE, message)))
    return sorted(found, key=lambda deadline: deadline[0])


def wake_at(state: State, limits: Limits) -> float | None:
    """When ``due`` will next change something, if nothing happens before."""
    if state.ending_since is not None:
        grace = _grace(state, limits)
        return min((state.ending_since + part * grace for step, part in _LADDER if step > state.step), default=None)
    return min((at for at, _ in _deadlines(state, limits)), default=None)


def last_moment(state: State, limits: Limits) -> tuple[float, Ending] | None:
    """When the process must be gone, and why, even if the bot's code never lets the host act again."""
    if state.ending is not None and state.ending_since is not None:
        return state.ending_since + EXIT_AT * _grace(state, limits), state.ending
    if state.joined_at is None:
        return None
    ending = Ending(EndReason.MAX_DURATION, f"The session lasted {limits.max_duration:g} s and the bot did not react.")
    return state.joined_at + limits.max_duration + EXIT_AT * limits.grace, ending
