"""BotSessions as the gateway sees them: one shared watch, and those who wait for a session to change."""

import asyncio
import base64
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Final

from loguru import logger
from pydantic import TypeAdapter, ValidationError

from pipecat_gateway.sessions.start import token_manifest
from pipecat_gateway.sessions.views import Session, ended_early, view
from pipecat_gateway.wire.errors import Problem, ShuttingDown, from_api, unknown_bot
from pipecat_gateway.wire.requests import NAME, UID, Json
from pipecat_operator import names
from pipecat_operator.api import Metadata
from pipecat_operator.kube import BOTS, SECRETS, SESSIONS, AlreadyExists, ApiError, Kube, NotFound, Object
from pipecat_operator.watch import Reflector

MEETINGS: Final = 5
"""How often a session of the name that is wanted may be there, and gone again when it is looked at."""
METADATA: Final = TypeAdapter(Metadata)
LATE_S: Final = 0.25
"""What another replica made is seen by then."""
GONE_MAX: Final = 10_000
BOT_FRESH_S: Final = 1.0
"""A Bot that was there still is, for as long: else every start would ask for it."""

Over = asyncio.Future[Session | Problem]
"""Done when there is nothing to ask of a session any more: it is finished, or why else."""


Lost = Callable[[Session], Problem | None]
"""Why a session never will be as wanted, if so."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """A request that waits for a session to be as wanted."""

    reached: Callable[[Session], bool]
    answer: asyncio.Future[Session | Problem]
    lost: Lost = ended_early

    def weigh(self, session: Session) -> None:
        """Answer if this is what was waited for, or never will be."""
        if self.reached(session):
            self.tell(session)
        elif problem := self.lost(session):
            self.tell(problem)

    def tell(self, answer: Session | Problem) -> None:
        """Answer, once."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Sessions:
    """The sessions of one namespace. It touches no Daily, no Job and no Pod."""

    def __init__(self, kube: Kube, namespace: str, now: Callable[[], float] = time.monotonic) -> None:
        """``now``: seconds."""
        self._kube = kube
        self._now = now
        self._namespace = namespace
        # Only what the watch told: what a create or a lookup answered may be older.
        self._known: dict[str, Session] = {}
        self._bots: dict[str, tuple[float, Metadata]] = {}
        """When each was last there."""
        self._gone: dict[str, None] = {}
        """The last that were deleted, the oldest first: who has just met one learns that it is too late."""
        self._waiting: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._closing = False
        self._reflector = Reflector(kube, SESSIONS, (namespace,), self._apply, self._retain)

    @property
    def synced(self) -> bool:
        """Whether all there are were seen."""
        return self._reflector.synced.is_set()

    async def run(self) -> None:
        """Watch, until cancelled."""
        await self._reflector.run()

    def give_up(self) -> None:
        """Answer everybody who waits, now and later, that the gateway is shutting down."""
        self._closing = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.tell(ShuttingDown())

    async def bot(self, name: str) -> Metadata:
        """A Bot that is there, or was a moment ago.

        Raises:
            Problem: 404, or the API server refused.
        """
        unknown = unknown_bot(name)
        if not NAME.fullmatch(name):
            raise unknown
        at = self._now()
        self._bots = {each: seen for each, seen in self._bots.items() if at - seen[0] < BOT_FRESH_S}
        if name in self._bots:
            return self._bots[name][1]
        try:
            found = await self._kube.get(BOTS, self._namespace, name)
        except NotFound as error:
            raise unknown from error
        except ApiError as error:
            raise from_api(error, f"Bot {name!r}") from error
        self._bots[name] = self._now(), METADATA.validate_python(found["metadata"])
        return self._bots[name][1]

    async def create(self, manifest: Json) -> tuple[Session, bool]:
        """Make a session, or meet the one that has its name; whether it was made.

        Raises:
            Problem: refused by the API server.
        """
        name = manifest["metadata"]["name"]
        for _ in range(MEETINGS):
            try:
                return view(await self._kube.create(SESSIONS, self._namespace, manifest)), True
            except AlreadyExists:
                found = await self._named(name)
            except ApiError as error:
                raise from_api(error, "The session") from error
            if found:
                return found, False
        raise Problem(409, "conflict", "A session of that name comes and goes; try again.")

    async def _named(self, name: str) -> Session | None:
        try:
            return view(await self._kube.get(SESSIONS, self._namespace, name))
        except NotFound:
            return None
        except ApiError as error:
            raise from_api(error, "The session") from error

    async def hand_token(self, session: Session, token: str) -> None:
        """Put the bot's token for a room of the caller's own where the session says; once is enough.

        Raises:
            Problem: refused by the API server.
        """
        name = session.token_secret or ""
        manifest = token_manifest(token, self._namespace, name, session.name, session.uid)
        try:
            await self._kube.create(SECRETS, self._namespace, manifest)
        except AlreadyExists:
            return
        except ApiError as error:
            raise from_api(error, "The session's Secret") from error

    async def delete(self, session: Session) -> None:
        """Remove the session, and with it all that is its; gone already is as good.

        Raises:
            Problem: the API server refused.
        """
        try:
            await self._kube.delete(SESSIONS, self._namespace, session.name, session.uid)
        except ApiError as error:
            raise from_api(error, "The session") from error

    def all(self) -> Iterable[Session]:
        """Those that the watch told of.

        Raises:
            Problem: it has not told of all yet.
        """
        if not self.synced:
            raise _not_listed()
        return self._known.values()

    async def until(
        self, uid: str, reached: Callable[[Session], bool], timeout_s: float, lost: Lost = ended_early
    ) -> Session:
        """The session, once it is as wanted.

        Raises:
            Problem: what ``lost`` says, or it was deleted, or took too long.
        """
        waiter = Waiter(reached, asyncio.get_running_loop().create_future(), lost)
        try:
            with self._told(uid, waiter):
                async with asyncio.timeout(timeout_s):
                    answer = await waiter.answer
        except TimeoutError as error:
            raise Problem(504, "timeout", f"The bot was not ready within {timeout_s:.0f} s.") from error
        if isinstance(answer, Problem):
            raise answer
        return answer

    @contextlib.contextmanager
    def until_over(self, uid: str) -> Iterator[Over]:
        """For as long as a session can be asked something."""
        over: Over = asyncio.get_running_loop().create_future()
        with self._told(uid, Waiter(lambda session: session.finished, over, lost=lambda _: None)):
            yield over

    @contextlib.contextmanager
    def _told(self, uid: str, waiter: Waiter) -> Iterator[None]:
        """It learns what becomes of the session."""
        self._waiting[uid].add(waiter)
        try:
            # The watch may have told it before the create was answered.
            if uid in self._known:
                waiter.weigh(self._known[uid])
            elif uid in self._gone:
                waiter.tell(_deleted())
            if self._closing:
                waiter.tell(ShuttingDown())
            yield
        finally:
            self._waiting[uid].discard(waiter)
            if not self._waiting[uid]:
                del self._waiting[uid]

    async def find(self, uid: str, theirs: Callable[[Session], bool]) -> Session:
        """By its UID, if it is the caller's; one made a moment ago by another replica is waited for.

        Raises:
            Problem: 404, for somebody else's as for one that isn't there, and as late; 503: none is known yet.
        """
        if UID.fullmatch(uid):
            waiter = Waiter(theirs, asyncio.get_running_loop().create_future(), lost=lambda _: None)
            with contextlib.suppress(TimeoutError), self._told(uid, waiter):
                async with asyncio.timeout(LATE_S):
                    found = await waiter.answer
                if isinstance(found, Session):
                    return found
                if isinstance(found, ShuttingDown):
                    raise found
        if not self.synced:
            raise _not_listed()
        raise not_there(uid)

    async def stop(self, name: str, uid: str | None = None) -> None:
        """Set spec.stop of the session of that name, and of that UID when one is given; the record stays.

        Raises:
            Problem: the API server refused.
        """
        patch: list[Object] = [{"op": "add", "path": "/spec/stop", "value": True}]
        if uid:
            patch.insert(0, {"op": "test", "path": "/metadata/uid", "value": uid})
        try:
            await self._kube.json_patch(SESSIONS, self._namespace, name, patch)
        except ApiError as error:
            raise from_api(error, "The session") from error

    async def user_token(self, session: Session) -> str:
        """The token that lets the user into the room.

        Raises:
            Problem: it can't be read.
        """
        name = names.secret_name(session.uid)
        try:
            secret = await self._secret(name)
        except NotFound as error:
            raise Problem(502, "no_token", "The session's Secret, which holds the user's token, is gone.") from error
        except ApiError as error:
            raise from_api(error, "The session's Secret") from error
        token = (secret.get("data") or {}).get(names.SECRET_USER_TOKEN)
        if not token:
            raise Problem(502, "no_token", "The session's Secret holds no token for the user.")
        return base64.b64decode(token).decode()

    async def _secret(self, name: str) -> Object:
        """A session's. It is immutable: an old answer is as good."""
        try:
            return await self._kube.get(SECRETS, self._namespace, name, cached=True)
        except NotFound:
            # The API server's cache may not have heard of it yet.
            return await self._kube.get(SECRETS, self._namespace, name)

    def _retain(self, _: str | None, uids: Set[str]) -> None:
        for uid in self._known.keys() - uids:
            self._forget(uid)

    def _apply(self, kind: str, item: Object) -> None:
        uid = item["metadata"]["uid"]
        if kind == "DELETED":
            self._forget(uid)
        elif session := _read(item):
            self._known[uid] = session
            for waiter in self._waiting.get(uid, ()):
                waiter.weigh(session)

    def _forget(self, uid: str) -> None:
        self._known.pop(uid, None)
        self._gone[uid] = None
        if len(self._gone) > GONE_MAX:
            del self._gone[next(iter(self._gone))]
        for waiter in self._waiting.get(uid, ()):
            waiter.tell(_deleted())


def not_there(uid: str) -> Problem:
    """The same for a session that isn't there and for one that is none of the caller's business."""
    return Problem(404, "not_found", f"There is no session {uid!r}.")


def _not_listed() -> Problem:
    return Problem(503, "unavailable", "The sessions are not listed yet; try again.")


def _deleted() -> Problem:
    return Problem(502, "deleted", "The session was deleted meanwhile.")


def _read(item: Object) -> Session | None:
    try:
        return view(item)
    except ValidationError as error:
        told = error.errors(include_input=False, include_url=False)
        logger.warning("BotSession {} can't be read and is passed over: {}", item["metadata"]["name"], told)
        return None
