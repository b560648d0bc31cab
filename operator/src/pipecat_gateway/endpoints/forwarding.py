"""What of a request goes on to a bot, and where to; what of its answer comes back. Pure."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pipecat_gateway.sessions.views import Session
from pipecat_gateway.wire.errors import Problem
from pipecat_operator import names
from pipecat_operator.conditions import Phase

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Of one connection only (RFC 9110, 7.6.1), besides what Connection names. Trailers are not passed on."""
_NOT_THE_BOTS: Final = frozenset({"authorization", "host", "expect"})
"""Authorization is the API key, which Pipecat Cloud leaves out too. What is expected, aiohttp has answered."""
_HANDSHAKE: Final = "sec-websocket-"
"""Each side has its own."""
SESSION: Final = "X-Pipecat-Session-Id"
"""Whose bot is meant: the pod's address may be another's by now."""
_REFUSED: Final = "X-Pipecat-Refused"
"""In an answer of the bot's host, not of the bot: why there is no other."""
_CORS: Final = "access-control-"
"""Which web pages may call is the gateway's setting."""
_UNPACKED: Final = frozenset({"gzip", "deflate", "br", "zstd"})
"""Encodings of a request that aiohttp has undone."""


def target(session: Session, asked: URL) -> URL:
    """Where to in the session's pod: path and query as sent, behind /v1/public/BOT/sessions/ID.

    Raises:
        Problem: there is no bot to ask.
    """
    if session.finished or (session.phase is Phase.ENDING and session.pod_ip is None):
        raise over(session)
    host = _address(session.pod_ip)
    if host is None:
        raise no_routes()
    path = asked.raw_path.split("/", 6)[6]
    query = asked.raw_query_string
    return URL.build(scheme="http", host=host, port=names.PORT, path=f"/{path}", query_string=query, encoded=True)


def _address(told: str | None) -> str | None:
    """As it stands in a URL, if it is one that a pod may have."""
    try:
        ip = ipaddress.ip_address(told or "")
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    # Clouds tell secrets at link-local addresses.
    beyond = ip.is_link_local or ip.is_multicast or ip.is_unspecified or "%" in str(ip)
    if beyond:
        return None
    return f"[{ip}]" if ip.version == 6 else str(ip)


def refused(headers: Mapping[str, str]) -> Problem | None:
    """What an answer means that is the host's instead of the bot's."""
    match headers.get(_REFUSED):
        case "no-routes":
            return no_routes()
        case "other-session":
            return Problem(502, "bot_gone", "The session's bot is gone.")
        case _:
            return None


def over(session: Session) -> Problem:
    """For who comes too late."""
    return Problem(410, "session_over", f"The session is over: {session.end_reason or 'it is ending'}.")


def no_routes() -> Problem:
    """Of its own."""
    said = "The bot has no HTTP routes: it serves some if it imports app of pipecatcloud_system (docs/bots.md)."
    return Problem(502, "no_routes", said)


def to_bot(headers: CIMultiDictProxy[str], session: str, caller: str | None, scheme: str) -> CIMultiDict[str]:
    """Of a request to that session's bot. ``caller``: the connection's address; ``scheme``: by which it came."""
    left_out = _connections_own(headers) | _NOT_THE_BOTS
    if headers.get("Content-Encoding", "").lower() in _UNPACKED:
        left_out |= {"content-encoding", "content-length"}
    passed = _without(headers, left_out, _HANDSHAKE)
    chain = [*passed.popall("X-Forwarded-For", []), *([caller] if caller else [])]
    if chain:
        passed["X-Forwarded-For"] = ", ".join(chain)
    # What stands before the gateway knows better.
    passed.setdefault("X-Forwarded-Proto", scheme)
    if host := headers.get("Host"):
        passed.setdefault("X-Forwarded-Host", _legible(host))
    passed[SESSION] = session
    return passed


def to_caller(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Of a bot's answer."""
    return _without(headers, _connections_own(headers), _CORS)


def protocols_of(headers: CIMultiDictProxy[str]) -> list[str]:
    """The WebSocket's subprotocols that are asked for, the most wanted first."""
    told = ",".join(headers.getall("Sec-WebSocket-Protocol", []))
    return [word.strip() for word in told.split(",") if word.strip()]


def _connections_own(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    named = ",".join(headers.getall("Connection", [])).split(",")
    # Whoever names them must not get rid of how long the body is.
    return _HOP_BY_HOP | ({name.strip().lower() for name in named} - {"content-length"})


def _without(headers: Mapping[str, str], names_: Iterable[str], prefix: str) -> CIMultiDict[str]:
    kept = ((name, value) for name, value in headers.items() if name.lower() not in names_)
    return CIMultiDict((name, _legible(value)) for name, value in kept if not name.lower().startswith(prefix))


def _legible(value: str) -> str:
    """As aiohttp can write it, which is UTF-8 only: other bytes are taken for Latin-1, as HTTP long had it."""
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
