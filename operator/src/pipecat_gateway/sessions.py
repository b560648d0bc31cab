"""BotSessions as the gateway sees them: one shared watch, and those who wait for a session to change."""

import asyncio
import base64
from collections import defaultdict
from collections.abc import Callable

from pydantic import ValidationError

from pipecat_gateway.errors import Problem, from_api
from pipecat_gateway.requests import Json, ended_early
from pipecat_operator import names
from pipecat_operator.api import BotSession
from pipecat_operator.kube import BOTS, SECRETS, SESSIONS, ApiError, Kube, NotFound, Object
from pipecat_operator.watch import Reflector


class Sessions:
    """The sessions of one namespace. It touches no Daily, no Job and no Pod."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._known: dict[str, BotSession] = {}
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._reflector = Reflector(kube, SESSIONS, (namespace,), self._replace, self._apply)

    @property
    def synced(self) -> bool:
        """Whether all there are were seen."""
        return self._reflector.synced.is_set()

    async def run(self) -> None:
        """Watch, until cancelled."""
        await self._reflector.run()

    async def create(self, manifest: Json) -> BotSession:
        """Make a session of a Bot that is there.

        Raises:
            Problem: unknown Bot, or refused by the API server.
        """
        bot = manifest["spec"]["botRef"]["name"]
        try:
            await self._kube.get(BOTS, self._namespace, bot)
            made = await self._kube.create(SESSIONS, self._namespace, manifest)
        except NotFound as error:
            raise Problem(404, "unknown_bot", f"There is no Bot {bot!r} in namespace {self._namespace!r}.") from error
        except ApiError as error:
            raise from_api(error, f"Bot {bot!r}") from error
        session = BotSession.model_validate(made)
        # The watch may have told more already.
        return self._known.setdefault(session.metadata.uid, session)

    async def until(self, uid: str, reached: Callable[[BotSession], bool], timeout_s: float) -> BotSession:
        """The session, once it is as wanted.

        Raises:
            Problem: it ended before, was deleted, or took too long.
        """
        changed = asyncio.Event()
        self._waiting[uid].add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    changed.clear()
                    session = self._known.get(uid)
                    if session is None:
                        raise Problem(502, "deleted", "The session was deleted before the bot was ready.")
                    if reached(session):
                        return session
                    if problem := ended_early(session):
                        raise problem
                    await changed.wait()
        except TimeoutError as error:
            raise Problem(504, "timeout", f"The bot was not ready within {timeout_s:.0f} s.") from error
        finally:
            self._waiting[uid].discard(changed)
            if not self._waiting[uid]:
                del self._waiting[uid]

    async def find(self, uid: str) -> BotSession:
        """By its UID; one made a moment ago by another replica is looked for too.

        Raises:
            Problem: 404.
        """
        if uid not in self._known:
            try:
                items, _ = await self._kube.list(SESSIONS, self._namespace)
            except ApiError as error:
                raise from_api(error, "The session") from error
            for item in items:
                self._apply("MODIFIED", item)
        if uid not in self._known:
            raise Problem(404, "not_found", f"There is no session {uid!r}.")
        return self._known[uid]

    async def stop(self, session: BotSession) -> None:
        """Set spec.stop; the record stays.

        Raises:
            Problem: the API server refused.
        """
        patch: list[Object] = [
            {"op": "test", "path": "/metadata/uid", "value": session.metadata.uid},
            {"op": "add", "path": "/spec/stop", "value": True},
        ]
        try:
            await self._kube.json_patch(SESSIONS, self._namespace, session.metadata.name, patch)
        except ApiError as error:
            raise from_api(error, "The session") from error

    async def user_token(self, session: BotSession) -> str:
        """The token that lets the user into the room.

        Raises:
            Problem: there is none (a room of one's own), or it can't be read.
        """
        name = names.secret_name(session.metadata.uid)
        try:
            secret = await self._kube.get(SECRETS, self._namespace, name)
        except ApiError as error:
            raise from_api(error, "The session's Secret") from error
        return base64.b64decode((secret.get("data") or {}).get(names.SECRET_USER_TOKEN, "")).decode()

    def _replace(self, _: str | None, items: list[Object]) -> None:
        there = {item["metadata"]["uid"] for item in items}
        for uid in [uid for uid in self._known if uid not in there]:
            self._forget(uid)
        for item in items:
            self._apply("MODIFIED", item)

    def _apply(self, kind: str, item: Object) -> None:
        uid = item["metadata"]["uid"]
        if kind == "DELETED":
            self._forget(uid)
            return
        try:
            self._known[uid] = BotSession.model_validate(item)
        except ValidationError:
            return
        self._tell(uid)

    def _forget(self, uid: str) -> None:
        self._known.pop(uid, None)
        self._tell(uid)

    def _tell(self, uid: str) -> None:
        for event in self._waiting.get(uid, ()):
            event.set()
