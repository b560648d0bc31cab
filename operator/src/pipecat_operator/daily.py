"""Daily's REST API: rooms and tokens, within Daily's rate limits.

Errors::

    DailyError
     +-- DailyRefused       the request or the key is at fault: asking again changes nothing
     +-- DailyUnavailable   429, 5xx, no answer: asking again later may help
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import aiohttp
from pydantic import SecretStr

from pipecat_operator.connections import Connector
from pipecat_operator.limiter import SlidingWindows
from pipecat_operator.metrics import Metrics
from pipecat_operator.settings import Settings, TokenMinting
from pipecat_operator.tokens import TokenRequest, sign

T = TypeVar("T")

REQUEST_TIMEOUT_S: Final = 10.0
PAGE: Final = 100
"""Rooms a list answers at most."""
SKEW_S: Final = 60.0
"""A clock that differs by more is named: Daily judges every expiry by its own."""


def refusal(operation: str, status: int) -> str:
    """How the text of an answer begins that isn't success: the gateway knows its callers' mistakes by it."""
    return f"Daily refused {operation} ({status})"


class DailyError(Exception):
    """A call to Daily that failed. The text is Daily's own and holds no key or token; ``call`` is the operation."""

    def __init__(self, message: str, call: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.call = call
        self.retry_after = retry_after


class DailyRefused(DailyError):
    """4xx."""

    def __init__(self, message: str, call: str, status: int) -> None:
        super().__init__(message, call)
        self.status = status


class DailyUnavailable(DailyError):
    """Nothing can be said now."""


@dataclass(frozen=True, slots=True)
class Room:
    """A Daily room. ``expires_at`` None: never."""

    name: str
    url: str
    created_at: datetime
    expires_at: datetime | None


def limiters(settings: Settings) -> tuple[SlidingWindows, SlidingWindows]:
    """For all calls, and for deletions besides. The longer windows are Daily's: 100 in 5 s, 50 in 30 s."""
    rate, deletes = settings.daily_requests_per_second, settings.daily_deletes_per_second
    return (
        SlidingWindows([(max(1, int(rate)), max(1.0, 1 / rate)), (max(1, int(rate * 5)), 5.0)]),
        SlidingWindows([(max(1, int(deletes)), max(1.0, 1 / deletes)), (max(1, int(deletes * 25)), 30.0)]),
    )


class Daily:
    """A client of one Daily domain. ``guard`` is called as Kube's is."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        guard: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._key: SecretStr = settings.daily_api_key
        self._url = str(settings.daily_api_url).rstrip("/")
        self._minting = settings.daily_tokens
        self._metrics = metrics
        self._guard = guard
        self._clock = clock
        self._calls, self._deletes = limiters(settings)
        self._domain_id: str | None = None
        self._asking = asyncio.Lock()
        self._http = aiohttp.ClientSession(
            connector=Connector(guard), timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        )

    async def close(self) -> None:
        """Drop every connection."""
        await self._http.close()

    async def make_room(self, name: str, properties: dict[str, Any]) -> Room:
        """Make the room, or meet the one of that name that an earlier try made."""
        privacy = properties.get("privacy", "private")
        rest = {key: value for key, value in properties.items() if key != "privacy"}
        body = {"name": name, "privacy": privacy, "properties": rest}
        try:
            return await self._call("POST", "/rooms", "create_room", _room, body)
        except DailyRefused as refused:
            if refused.status == 400 and "already exists" in str(refused):
                return await self._call("GET", f"/rooms/{name}", "get_room", _room)
            raise

    async def delete_room(self, name: str) -> None:
        """Delete the room; gone already is as good. It waits while rooms or tokens are to be made."""
        async with self._deletes.call():
            try:
                await self._call("DELETE", f"/rooms/{name}", "delete_room", lambda _: None, hurry=False)
            except DailyRefused as refused:
                if refused.status != 404:
                    raise

    async def rooms(self) -> list[Room]:
        """Every room of the domain. Raises rather than answer a part."""
        found: list[Room] = []
        after: dict[str, str] = {}
        while True:
            query = {"limit": str(PAGE), **after}
            page, last = await self._call("GET", "/rooms", "list_rooms", _page, params=query, hurry=False)
            found += page
            if len(page) < PAGE:
                return found
            after = {"starting_after": last}

    async def token(self, request: TokenRequest) -> str:
        """A meeting token, made as the settings say."""
        if self._minting is TokenMinting.REST or request.more:
            body = {"properties": request.properties()}
            return await self._call("POST", "/meeting-tokens", "create_token", lambda said: str(said["token"]), body)
        return sign(request, await self._domain(), self._key.get_secret_value(), self._clock())

    async def _domain(self) -> str:
        """Asked for once, however many sessions want it at the start."""
        async with self._asking:
            if self._domain_id is None:
                self._domain_id = await self._call("GET", "/", "get_domain", lambda said: str(said["domain_id"]))
            return self._domain_id

    async def _call(
        self,
        method: str,
        path: str,
        operation: str,
        read: Callable[[Any], T],
        body: dict[str, Any] | None = None,
        params: dict[str, str] | None = None,
        hurry: bool = True,
    ) -> T:
        """What ``read`` makes of the answer; one that it can't read is none."""
        async with self._calls.call(hurry):
            return await self._send(method, path, operation, read, body, params)

    async def _send(
        self,
        method: str,
        path: str,
        operation: str,
        read: Callable[[Any], T],
        body: dict[str, Any] | None,
        params: dict[str, str] | None,
    ) -> T:
        self._guard()
        headers = {"Authorization": f"Bearer {self._key.get_secret_value()}"}
        began = time.monotonic()
        outcome = "no_answer"
        try:
            async with self._http.request(
                method, self._url + path, json=body, params=params, headers=headers
            ) as response:
                outcome = str(response.status)
                ahead = clock_ahead(response.headers.get("Date"), self._clock())
                if ahead is not None:
                    self._metrics.daily_clock_ahead(ahead)
                if response.status >= 400:
                    raise await _error(operation, response, ahead or 0)
                return read(await response.json())
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = f"Daily gave no answer to {operation}: {type(error).__name__}"
            raise DailyUnavailable(said, operation) from error
        finally:
            self._metrics.daily_call(operation, outcome, time.monotonic() - began)


def clock_ahead(date: str | None, now: datetime) -> float | None:
    """Seconds by which Daily's clock is ahead of ours, by its answer's Date header; None: it does not say. Pure."""
    try:
        told = parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
    # A date without a zone is no HTTP date.
    return (told - now).total_seconds() if told and told.tzinfo else None


async def _error(operation: str, response: aiohttp.ClientResponse, ahead: float) -> DailyError:
    text = await response.text()
    try:
        said = await response.json(content_type=None)
        text = ": ".join(str(said[key]) for key in ("error", "info") if said.get(key))
    except (ValueError, AttributeError):
        text = text[:200]
    message = f"{refusal(operation, response.status)}: {text}"
    if abs(ahead) >= SKEW_S:
        message += f". Daily's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the operator's"
    if response.status == 429 or response.status >= 500:
        after = response.headers.get("Retry-After", "")
        return DailyUnavailable(message, operation, float(after) if after.isdigit() else None)
    return DailyRefused(message, operation, response.status)


def _page(answer: dict[str, Any]) -> tuple[list[Room], str]:
    """The rooms of a page, and the id of the last."""
    data = answer["data"]
    return [_room(room) for room in data], str(data[-1]["id"]) if data else ""


def _room(answer: dict[str, Any]) -> Room:
    return Room(
        name=str(answer["name"]),
        url=str(answer["url"]),
        created_at=datetime.fromisoformat(str(answer["created_at"])),
        expires_at=_time((answer.get("config") or {}).get("exp")),
    )


def _time(seconds: float | None) -> datetime | None:
    """None: never, or later than a datetime tells: whoever made that room meant never."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (OverflowError, ValueError, OSError):
        return None
