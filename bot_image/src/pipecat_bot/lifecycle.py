"""A session's life as its host sees it: events and the clock in, one ending out. Pure.

The first ending stands; whatever comes after is a consequence of it.
"""

from dataclasses import dataclass, field

from pipecat_bot.ending import Ending, Reason
from pipecat_bot.environment import Session


@dataclass(slots=True)
class Lifecycle:
    """Times are seconds on any one monotonic clock."""

    session: Session
    joined_at: float | None = None
    users: set[str] = field(default_factory=set)
    """Participants beside the bot."""
    somebody_came: bool = False
    active_at: float | None = None
    """When somebody last said something, or came."""
    ending: Ending | None = None

    @property
    def in_room(self) -> bool:
        """What readiness tells."""
        return self.joined_at is not None and self.ending is None

    def joined(self, now: float) -> None:
        """The bot is in the room."""
        if self.joined_at is None:
            self.joined_at = now

    def user_joined(self, user: str, now: float) -> None:
        """Somebody else is in the room."""
        self.users.add(user)
        self.somebody_came = True
        self.active_at = now

    def user_left(self, user: str) -> None:
        """The call ends with its last user; one who reloads the page has left."""
        self.users.discard(user)
        if self.somebody_came and not self.users:
            self.end(Ending(Reason.USER_LEFT, "The user left the call."))

    def spoken(self, now: float) -> None:
        """User or bot said something."""
        self.active_at = now

    def disconnected(self) -> None:
        """The call ended underneath the bot: ejected, or the room is gone."""
        self.end(Ending(Reason.EJECTED, "The bot was put out of the room, or the room is gone."))

    def error(self, message: str) -> None:
        """The transport failed; before joining that is the end, where today's Pipecat would wait 300 s."""
        if self.joined_at is None:
            self.end(Ending(Reason.JOIN_FAILED, message))

    def failed(self, message: str) -> None:
        """Bot code, or the pipeline, failed for good."""
        self.end(Ending(Reason.BOT_FAILED, message))

    def idle(self) -> None:
        """Pipecat's own idle timeout, in a bot that set one."""
        self.end(Ending(Reason.IDLE, "Nothing was said for too long."))

    def stop(self) -> None:
        """SIGTERM."""
        self.end(Ending(Reason.STOPPED, "The bot was told to stop.", polite=self.joined_at is not None))

    def returned(self) -> None:
        """bot() came back by itself."""
        if self.joined_at is None:
            self.end(Ending(Reason.BOT_FAILED, "bot() returned before the bot was in the room."))
        else:
            self.end(Ending(Reason.BOT_FINISHED, "The bot ended the call."))

    def tick(self, now: float) -> float | None:
        """End what is due; answers the seconds until the next deadline."""
        due = [at - now for at, ending in self._deadlines() if not self._due(at, now, ending)]
        return max(0.0, min(due)) if due and self.ending is None else None

    def end(self, ending: Ending) -> None:
        """Only the first counts."""
        if self.ending is None:
            self.ending = ending

    def _due(self, at: float, now: float, ending: Ending) -> bool:
        if at > now:
            return False
        self.end(ending)
        return True

    def _deadlines(self) -> list[tuple[float, Ending]]:
        found: list[tuple[float, Ending]] = []
        if self.joined_at is None:
            return found
        limits = self.session
        if limits.max_duration_s is not None:
            over = Ending(Reason.MAX_DURATION, f"The call lasted its {limits.max_duration_s:.0f} s.", polite=True)
            found.append((self.joined_at + limits.max_duration_s, over))
        if not self.somebody_came and limits.join_timeout_s is not None:
            nobody = Ending(Reason.NO_SHOW, f"Nobody came within {limits.join_timeout_s:.0f} s.")
            found.append((self.joined_at + limits.join_timeout_s, nobody))
        if self.somebody_came and self.active_at is not None and limits.idle_timeout_s is not None:
            idle = Ending(Reason.IDLE, f"Nobody said anything for {limits.idle_timeout_s:.0f} s.")
            found.append((self.active_at + limits.idle_timeout_s, idle))
        return found
