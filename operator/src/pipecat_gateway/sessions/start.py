"""From a start request to a BotSession. Pure."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic import ValidationError

from pipecat_gateway.keys.ring import ANONYMOUS, Key
from pipecat_gateway.wire.errors import Problem, from_validation, unknown_bot
from pipecat_gateway.wire.models import (
    BODY_MAX,
    ROOM_IS_NONE,
    ROOM_IS_OURS,
    ROOM_URL,
    ROOM_URL_MAX,
    TOKEN,
    TOKEN_IS_OURS,
    TOKEN_MAX,
    USER_ID_MAX,
    USER_NAME_MAX,
    StartRequest,
)
from pipecat_gateway.wire.requests import NAME, Json
from pipecat_operator import names

LABEL_TENANT: Final = f"{names.GROUP}/tenant"
LABEL_API_KEY: Final = f"{names.GROUP}/api-key"
ANNOTATION_FINGERPRINT: Final = f"{names.GROUP}/idempotency-fingerprint"

RECORDS: Final = (
    "enable_recording",
    "start_cloud_recording",
    "auto_start_recording",
    "recordings_bucket",
    "recordings_template",
    "auto_start_transcription",
    "auto_transcription_settings",
    "enable_transcription_storage",
    "transcription_bucket",
    "transcription_template",
    "streaming_endpoints",
    "rtmp_ingress",
    "meeting_join_hook",
)
"""Properties of rooms and tokens that let somebody record, or send elsewhere what is said, unless they are false."""
TEXT_BOUNDS: Final = {"user_name": USER_NAME_MAX, "user_id": USER_ID_MAX}
TOKEN_KEY: Final = "token"  # noqa: S105
"""In the Secret of a room of one's own."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a caller asked for."""

    bot: str
    body: Json | None = None
    room: Json = field(default_factory=dict)
    """Daily's properties."""
    user: Json = field(default_factory=dict)
    """Properties of the user's token."""
    own_url: str | None = None
    """Of a room of the caller's own: nothing is made."""
    own_token: str | None = field(default=None, repr=False)
    """For the bot; it may be in a Secret only."""


def start_of(bot: str, request: Json, key: Key = ANONYMOUS, model: type[StartRequest] = StartRequest) -> Start:
    """A start in the shape that Pipecat's runner and Pipecat Cloud share.

    Raises:
        Problem: what is asked for is not offered, not allowed, or too large.
    """
    offered(request)
    try:
        asked = model.model_validate(request)
    except ValidationError as error:
        raise from_validation(error) from None
    room, user, body = asked.daily_room_properties or {}, asked.daily_meeting_token_properties or {}, asked.body or {}
    if not asked.create_daily_room or ("createDailyRoom" not in request and names_a_room(body)):
        return checked(own_room(bot, body, room, user))
    tokenless(body, "body.token", "send body.room_url with it, and no createDailyRoom")
    for what, properties, ours in (
        ("dailyRoomProperties", room, ROOM_IS_OURS),
        ("dailyMeetingTokenProperties", user, TOKEN_IS_OURS),
    ):
        for word in ours:
            if word in properties:
                hint = (
                    ""
                    if "name" in word
                    else " For a shorter call set spec.session.maxDurationSeconds instead, of the Bot."
                )
                raise Problem(400, "refused", f"{what}.{word} is the operator's: leave it out.{hint}")
    for word in ROOM_IS_NONE:
        if word in room:
            raise Problem(400, "bad_request", f"dailyRoomProperties.{word} is no property of a Daily room.")
    if room.get("privacy", "private") not in ("private", "public"):
        raise Problem(400, "bad_request", "dailyRoomProperties.privacy must be 'private' or 'public'.")
    well_formed(user)
    allowed(room, user, key)
    return checked(Start(bot, asked.body, room, user))


def offered(request: Json) -> None:
    """Raises Problem for what Pipecat Cloud has and this doesn't, saying what to do instead."""
    transport = request.get("transport", "daily")
    if transport != "daily":
        raise Problem(400, "unsupported_transport", f"transport {transport!r} is not offered; use 'daily'.")
    if request.get("enableDefaultIceServers"):
        said = "enableDefaultIceServers is for transport 'webrtc', which is not offered: leave it out."
        raise Problem(400, "unsupported_transport", said)


def names_a_room(body: Json) -> bool:
    """Whether it can only mean a room of the caller's own."""
    return body.get("room_url") is not None and body.get("token") is not None


def tokenless(body: Json, what: str, way: str) -> None:
    """Raises Problem for a token that would stay readable in the session, since a room is made.

    ``what``: the token's place in the request; ``way``: how to use it.
    """
    if body.get("token") is not None:
        said = (
            f"{what} is the bot's meeting token for a room of your own: {way}. For a room that is made, leave it out."
        )
        raise Problem(400, "token_without_room", said)


def own_room(bot: str, body: Json, room: Json, user: Json) -> Start:
    """A start in a room that the caller made: the body says which.

    Raises:
        Problem: it doesn't, or asks for what only a room of ours has.
    """
    url, token = body.get("room_url"), body.get("token")
    if url is None and token is None:
        raise Problem(
            400,
            "room_required",
            "There is no room: send createDailyRoom true to have one made, or body.room_url and body.token of your "
            "own.",
        )
    if not isinstance(url, str) or not re.fullmatch(ROOM_URL, url) or len(url) > ROOM_URL_MAX:
        raise Problem(400, "bad_request", f"body.room_url must be a web address of at most {ROOM_URL_MAX} characters.")
    if not isinstance(token, str) or not re.fullmatch(TOKEN, token) or len(token) > TOKEN_MAX:
        raise Problem(400, "bad_request", "body.token must be the bot's meeting token for body.room_url.")
    if room or user:
        what = "dailyRoomProperties" if room else "dailyMeetingTokenProperties"
        raise Problem(400, "bad_request", f"{what} shape a room that is made: send createDailyRoom true, or leave out.")
    # The bot's host puts the token back where the bot looks for it.
    return Start(bot, {name: value for name, value in body.items() if name != "token"}, own_url=url, own_token=token)


def well_formed(user: Json) -> None:
    """Raises Problem for properties of a token that Kubernetes would refuse in words of its own."""
    for word, bound in TEXT_BOUNDS.items():
        value = user.get(word, "")
        if not isinstance(value, str) or len(value) > bound:
            said = f"dailyMeetingTokenProperties.{word} must be text of at most {bound} characters."
            raise Problem(400, "bad_request", said)
    if not isinstance(user.get("is_owner", False), bool):
        raise Problem(400, "bad_request", "dailyMeetingTokenProperties.is_owner must be true or false.")


def allowed(room: Json, user: Json, key: Key) -> None:
    """Raises Problem for what the API key may not ask for."""
    if not key.may_own:
        for what, asked in (
            ("dailyMeetingTokenProperties.is_owner", user.get("is_owner")),
            ("dailyMeetingTokenProperties.permissions.canAdmin", _admin(user)),
            # Daily gives them to everybody whose token says nothing else.
            ("dailyRoomProperties.permissions.canAdmin", _admin(room)),
        ):
            if asked:
                raise Problem(403, "forbidden", f"{what}: this API key may not ask for owners of a room.")
    if not key.may_record:
        for what, properties in (("dailyRoomProperties", room), ("dailyMeetingTokenProperties", user)):
            for word in RECORDS:
                if properties.get(word):
                    raise Problem(403, "forbidden", f"{what}.{word}: this API key may not ask for recording.")


def _admin(properties: Json) -> Any:
    permissions = properties.get("permissions")
    return permissions.get("canAdmin") if isinstance(permissions, dict) else permissions


def start_bot_of(bot: str, request: Json) -> Start:
    """A start as in Pipecat's guide: the whole request is the bot's body.

    Raises:
        Problem: it is too large, or asks for a room of one's own in a way that can't be.
    """
    if names_a_room(request) and not request.get("createDailyRoom"):
        return checked(own_room(bot, request, {}, {}))
    tokenless(request, "token", "send room_url with it, and no createDailyRoom")
    if isinstance(inner := request.get("body"), dict):
        tokenless(inner, "body.token", "send room_url and token outside of body here, or call /start")
    return checked(Start(bot, request or None))


def checked(start: Start) -> Start:
    """Raises Problem when there can be no such Bot, or the body is more than a session carries."""
    if not NAME.fullmatch(start.bot):
        raise unknown_bot(start.bot)
    size = len(json.dumps(start.body, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass"))
    if size > BODY_MAX:
        raise Problem(413, "body_too_large", f"body is {size} bytes; at most {BODY_MAX} are carried. Send a reference.")
    return start


def spec_of(start: Start, key: Key, token_secret: str) -> Json:
    """The spec of the BotSession. ``token_secret``: where the token for a room of one's own will be."""
    spec: Json = {"botRef": {"name": start.bot}}
    if start.body is not None:
        spec["body"] = start.body
    if start.own_url is not None:
        spec["room"] = {"url": start.own_url, "tokenSecretRef": {"name": token_secret, "key": TOKEN_KEY}}
    elif start.room:
        spec["room"] = start.room
    if start.user:
        spec["user"] = _user(start.user)
    if key.max_sessions is not None:
        spec["quota"] = {"group": key.id, "maxSessions": key.max_sessions}
    return spec


def _user(properties: Json) -> Json:
    """Name and id by the fields that there are for them: a token with no more is signed without asking Daily."""
    known = {"user_name": "name", "user_id": "id"}
    user = {known[word]: value for word, value in properties.items() if word in known}
    rest = {word: value for word, value in properties.items() if word not in known}
    return {**user, **({"tokenProperties": rest} if rest else {})}


def manifest(
    start: Start, key: Key, namespace: str, name: str, token_secret: str, fingerprint: str | None = None
) -> Json:
    """The BotSession to make. ``token_secret``: where the token for a room of one's own will be."""
    metadata: Json = {
        "name": name,
        "namespace": namespace,
        "labels": {LABEL_TENANT: key.tenant, LABEL_API_KEY: key.id},
    }
    if fingerprint:
        metadata["annotations"] = {ANNOTATION_FINGERPRINT: fingerprint}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "BotSession",
        "metadata": metadata,
        "spec": spec_of(start, key, token_secret),
    }


def packed(manifest: Json) -> Json:
    """The same, its spec written already: as Python objects it takes up to 25 times as much memory."""
    spec = manifest["spec"]
    try:
        text = orjson.dumps(spec)
    except TypeError:
        # It stops at half a surrogate pair, and at integers of more than 64 bits.
        text = json.dumps(spec, separators=(",", ":")).encode()
    return {**manifest, "spec": orjson.Fragment(text)}


def token_manifest(token: str, namespace: str, name: str, session: str, uid: str) -> Json:
    """The Secret that hands the bot the token for a room of one's own: it goes when the session goes."""
    owner = {"apiVersion": names.API_VERSION, "kind": "BotSession", "name": session, "uid": uid}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {names.LABEL_SESSION: uid},
            "ownerReferences": [owner],
        },
        "type": "Opaque",
        "immutable": True,
        "stringData": {TOKEN_KEY: token},
    }


def asked(start: Start) -> Any:
    """All that makes two starts the same one."""
    return [start.bot, start.body, start.room, start.user, start.own_url, start.own_token]
