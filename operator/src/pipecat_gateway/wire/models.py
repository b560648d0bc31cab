"""Every request and answer, by the names that Pipecat Cloud gives them. The OpenAPI document is made from these.

Fields of a request that aren't here are ignored, as Pipecat Cloud ignores them; those that are here are honoured or
refused by name.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

BODY_MAX: Final = 64 * 1024
"""Bytes of the bot's body as JSON; the operator's own bound."""
USER_NAME_MAX: Final = 128
USER_ID_MAX: Final = 36
ROOM_URL: Final = r"^https?://[!-~]+$"
ROOM_URL_MAX: Final = 2048
TOKEN: Final = r"^[!-~]+$"  # noqa: S105
TOKEN_MAX: Final = 8192

ROOM_IS_OURS: Final = ("name", "exp", "nbf", "eject_at_room_exp", "eject_after_elapsed")
"""Of dailyRoomProperties: the operator's."""
ROOM_IS_NONE: Final = ("url", "tokenSecretRef")
"""Of spec.room, but no properties of a Daily room."""
TOKEN_IS_OURS: Final = ("room_name", "exp", "nbf", "eject_at_token_exp", "eject_after_elapsed")
"""Of dailyMeetingTokenProperties: the operator's; the last two would undo the room's own end."""


def _not(names: tuple[str, ...]) -> dict[str, Any]:
    return {"not": {"enum": list(names)}}


RoomProperties = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 64,
            "propertyNames": _not(ROOM_IS_OURS + ROOM_IS_NONE),
            "properties": {"privacy": {"enum": ["private", "public"]}},
        }
    ),
]
TokenProperties = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 32,
            "propertyNames": _not(TOKEN_IS_OURS),
            "properties": {
                "user_name": {"type": "string", "maxLength": USER_NAME_MAX},
                "user_id": {"type": "string", "maxLength": USER_ID_MAX},
                "is_owner": {"type": "boolean"},
            },
        }
    ),
]

No = Annotated[bool, WithJsonSchema({"type": "boolean", "const": False})]

_OWN_ROOM: Final[JsonDict] = {
    "required": ["body"],
    "properties": {
        "createDailyRoom": {"const": False},
        "dailyRoomProperties": {"maxProperties": 0},
        "dailyMeetingTokenProperties": {"maxProperties": 0},
        "body": {
            "type": "object",
            "required": ["room_url", "token"],
            "properties": {
                "room_url": {"type": "string", "pattern": ROOM_URL, "maxLength": ROOM_URL_MAX},
                "token": {"type": "string", "pattern": TOKEN, "maxLength": TOKEN_MAX},
            },
        },
    },
}


_ROOM_IS_MADE: Final[JsonDict] = {
    "createDailyRoom": {"const": True},
    "body": {"properties": {"token": {"type": "null"}}},
}


class Request(BaseModel):
    """What is sent. Types are meant: "true" is not true."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", strict=True, frozen=True)


class StartRequest(Request):
    """A start, as Pipecat Cloud takes it."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["createDailyRoom"], "properties": _ROOM_IS_MADE}, _OWN_ROOM]}
    )

    create_daily_room: bool = Field(
        False,
        description="True: a Daily room is made for the session. Else send body.room_url and body.token of your own.",
    )
    daily_room_properties: RoomProperties | None = Field(
        None,
        description="Daily's own room properties, for the room that is made. Name and expiry are the operator's.",
    )
    daily_meeting_token_properties: TokenProperties | None = Field(
        None,
        description="Daily's own token properties, for the user's token; the bot's is left alone. is_owner, "
        "permissions.canAdmin and recording need the API key's leave. Room and expiry are the operator's.",
    )
    enable_default_ice_servers: No = Field(False, description="For transport webrtc, which isn't offered.")
    transport: Literal["daily"] = Field("daily", description="The others aren't offered.")
    body: dict[str, Any] | None = Field(
        None, description=f"For the bot, as runner_args.body; at most {BODY_MAX} bytes of JSON."
    )


class RunnerStartRequest(StartRequest):
    """A start, as Pipecat's development runner takes it: there is always a room."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"properties": _ROOM_IS_MADE}, _OWN_ROOM]})

    create_daily_room: bool = Field(True, description="False: send body.room_url and body.token of a room of your own.")


class StartBotRequest(BaseModel):
    """Anything: all of it is the bot's body."""

    model_config = ConfigDict(extra="allow")


def _digits(value: Any) -> Any:
    """Python reads more as an integer than JSON has."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]+", value):
        raise ValueError("Input should be an integer")
    return value


Whole = Annotated[int, BeforeValidator(_digits)]
Count = Annotated[int, Field(ge=0), BeforeValidator(_digits)]
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_digits)]


class Query(BaseModel):
    """What stands behind the question mark."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class StartQuery(Query):
    """How long a start takes."""

    wait: Literal["joined"] | None = Field(
        None, description="joined: answer when the bot is in the room. Else as soon as room and token stand."
    )


class SessionsQuery(Query):
    """Which sessions."""

    limit: Limit = Field(10, description="At most so many.")
    offset: Count = Field(0, description="Leave out the latest so many.")
    status: Literal["active", "ended", "all"] = "all"
    end_state: str | None = Field(None, description="As endState of a session.", pattern=r"^[a-z][a-z0-9_]*$")
    start_type: Literal["cold", "warm", "all"] = Field("all", description="Every start is cold.")
    deployment_id: str | None = Field(None, description="The Bot's UID, the only deployment that it has.")
    start_time: Whole | None = Field(None, description="Created at that Unix time or later.")
    end_time: Whole | None = Field(None, description="Created at that Unix time or earlier.")
    start_time_min: Count = Field(0, description="Took so many seconds to start, or more.")
    start_time_max: Count = Field(0, description="Took at most so many seconds; 0: no bound.")


class Answer(BaseModel):
    """What is answered."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Started(Answer):
    """A session that was started."""

    daily_room: str | None = Field(None, description="URL of the room, if it was made for the session.")
    daily_token: str | None = Field(None, description="The user's token for it.")
    session_id: str = Field(description="The session's UID.")


class StartedBot(BaseModel):
    """Where the bot waits."""

    room_url: str
    token: str


Completion = Literal["HTTP_COMPLETED", "HTTP_ERROR"]
EventCode = Literal["SESSION_START_INITIATED", "REQUEST_ARRIVED_AT_BOT", "SESSION_COMPLETED", "SESSION_TIMEOUT"]
EndState = Literal[
    "active",
    "completed",
    "ended_before_agent_start",
    "agent_start_timeout",
    "terminated",
    "agent_error",
    "unknown",
]


class Event(Answer):
    """A moment in a session's life."""

    event_code: EventCode
    event_ts: str


class SessionInfo(Answer):
    """A session in a list."""

    session_id: str
    service_id: str | None = Field(description="The Bot's UID; null when the Bot was deleted.")
    organization_id: str = Field(description="The tenant.")
    deployment_id: str | None = Field(description="As serviceId.")
    created_at: str
    updated_at: str
    ended_at: str | None
    bot_start_seconds: int | None = Field(description="From the request to the bot in the room.")
    cold_start: bool = Field(description="Always: every session has a process of its own.")
    completion_status: Completion | None
    end_state: EndState
    end_reason: str | None = Field(description="The operator's word for why it ended.")


class SessionDetails(SessionInfo):
    """A session."""

    message: str | None = Field(description="A sentence about its end, or about what is in the way.")
    events: list[Event]
    resource_metrics: None = Field(None, description="Not kept here; the pod's are in the cluster's monitoring.")
    meeting_ids: list[Any] = Field([], description="Not kept here.")


class SessionList(BaseModel):
    """A page of sessions, the latest first."""

    total_count: int
    sessions: list[SessionInfo]


class Stopped(BaseModel):
    """A session that is being stopped."""

    status: Literal["terminated"] = "terminated"
    session_id: str


class SessionStatus(Answer):
    """A session, in the operator's words."""

    session_id: str
    bot: str
    created_at: datetime
    phase: str
    daily_room: str | None = None
    end_reason: str | None = None
    message: str | None = None
    started_at: datetime | None = None
    joined_at: datetime | None = None
    ended_at: datetime | None = None


class Service(Answer):
    """A Bot, as far as who wants to start it asks."""

    id: str
    name: str
    organization_id: str
    ready: bool
    available: bool
    active_session_count: int
    created_at: str


class ServiceAnswer(BaseModel):
    """A Bot."""

    body: Service


class Organization(Answer):
    """A tenant."""

    id: str
    name: str
    verbose_name: str


class Organizations(BaseModel):
    """The caller's own tenant."""

    organizations: list[Organization]


class ErrorAnswer(BaseModel):
    """What went wrong."""

    error: str = Field(description="For people.")
    code: str = Field(description="For programs.")
    status: int | None = Field(None, description="With 429: the same.")
    message: str | None = Field(None, description="With 429: as error.")
