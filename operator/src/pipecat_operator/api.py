"""The API ``pipecat.dev/v1alpha1`` as the operator reads it. The contract itself is ``crds/``.

Unknown fields are ignored: a newer object doesn't break an older operator.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

from pipecat_operator.conditions import ConditionType, EndReason, Phase

Json = dict[str, Any]
Seconds = Annotated[int, Field(ge=0, le=604_800)]
"""Within the widest bounds of the schema, so that every sum of them with a time is one."""
Bound = Annotated[int, Field(ge=0)]
"""So many at a time."""


CONFIG = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")
"""camelCase outside, snake_case inside."""


class Model(BaseModel):
    """What most is made of. What a live session has several of is a dataclass instead: a sixth of the memory."""

    model_config = CONFIG


class Status(Model):
    """What stands in a status, by whomever: a field that makes no sense is as good as none."""

    @model_validator(mode="wrap")
    @classmethod
    def _bear(cls, said: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(said)
        except ValidationError as error:
            senseless = {problem["loc"][:1] for problem in error.errors(include_input=False, include_url=False)}
            return handler({name: value for name, value in said.items() if (name,) not in senseless})


@dataclass(config=CONFIG, slots=True, kw_only=True)
class Metadata:
    """The part of Kubernetes' ObjectMeta that is read."""

    name: str
    namespace: str
    uid: str
    generation: int = 0
    resource_version: str = "0"
    creation_timestamp: datetime


@dataclass(config=CONFIG, slots=True, kw_only=True)
class Condition:
    """metav1.Condition."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: datetime
    observed_generation: int = 0


class SessionLimits(Model):
    """How long a session's parts may take, in seconds. None: ask the Bot, then the built-in limits."""

    start_timeout_seconds: Seconds | None = None
    max_duration_seconds: Seconds | None = None
    join_timeout_seconds: Seconds | None = None
    idle_timeout_seconds: Seconds | None = None
    termination_grace_period_seconds: Seconds | None = None
    ttl_seconds_after_finished: Seconds | None = None


class Limits(Model):
    """Limits resolved, in seconds; the defaults here are the built-in ones."""

    start_timeout_seconds: Seconds = 180
    """From creation to the bot in the room, everything included."""
    max_duration_seconds: Seconds = 3600
    """From joining."""
    join_timeout_seconds: Seconds = 60
    """Bot in the room, nobody came."""
    idle_timeout_seconds: Seconds = 120
    """Nobody said anything."""
    termination_grace_period_seconds: Seconds = 30
    ttl_seconds_after_finished: Seconds = 600


class ImagePullSecret(Model):
    """A Secret in the session's namespace."""

    name: str


class ResourceRequirements(Model):
    """CPU and memory, as Kubernetes writes them."""

    requests: Json = Field(default_factory=lambda: {"cpu": "250m", "memory": "300Mi"})
    limits: Json = Field(default_factory=lambda: {"cpu": "1"})


class Capacity(Model):
    """How much of a bot there may be."""

    max_sessions: Bound | None = None
    """None: as many as want."""


class BotSpec(Model):
    """How to run one bot."""

    image: str
    image_pull_policy: str | None = None
    image_pull_secrets: tuple[ImagePullSecret, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    env: tuple[Json, ...] = ()
    env_from: tuple[Json, ...] = ()
    session: SessionLimits = SessionLimits()
    capacity: Capacity = Capacity()
    room: Json = Field(default_factory=dict)
    allow_disruption: bool = False
    pod_template: Json = Field(default_factory=dict)


class BotStatus(Status):
    """What the operator says of a Bot."""

    live_sessions: int | None = None
    conditions: tuple[Condition, ...] = ()
    observed_generation: int | None = None


class Bot(Model):
    """``kind: Bot``."""

    metadata: Metadata
    spec: BotSpec
    status: BotStatus = BotStatus()


class BotRef(Model):
    """A Bot in the session's namespace."""

    name: str


class TokenSecretRef(Model):
    """Where the bot's token for a room of one's own is."""

    name: str
    key: str = "token"


class RoomSpec(Model):
    """Daily room properties, free-form; or a room of one's own."""

    # By its alias only: Kubernetes looks at tokenSecretRef, and keeps any other word as one of Daily's.
    model_config = ConfigDict(extra="allow", populate_by_name=False)

    url: str | None = None
    token_secret_ref: TokenSecretRef | None = None

    @property
    def properties(self) -> Mapping[str, Any]:
        """Daily's properties, with Daily's names."""
        return self.model_extra or {}


class User(Model):
    """Who calls: goes into the user's meeting token."""

    name: str | None = None
    id: str | None = None
    token_properties: Json = Field(default_factory=dict)


class Quota(Model):
    """A bound that the sessions of one group share, in their namespace."""

    group: str
    max_sessions: Bound


class BotSessionSpec(Model):
    """One conversation."""

    bot_ref: BotRef
    body: Json | None = None
    room: RoomSpec = RoomSpec()
    user: User = User()
    session: SessionLimits = SessionLimits()
    quota: Quota | None = None
    stop: bool = False


@dataclass(config=CONFIG, slots=True, kw_only=True)
class RoomStatus:
    """The room of a session. A room of one's own has neither name nor expiry here."""

    name: str | None = None
    url: str
    expires_at: datetime | None = None


class BotSessionStatus(Status):
    """Where a session stands."""

    phase: Phase | None = None
    conditions: tuple[Condition, ...] = ()
    room: RoomStatus | None = None
    credentials_secret_name: str | None = None
    job_name: str | None = None
    pod_name: str | None = None
    pod_ip: str | None = Field(default=None, alias="podIP")
    started_at: datetime | None = None
    joined_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    message: str | None = None
    observed_generation: int | None = None

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((c for c in self.conditions if c.type == kind), None)


class BotSession(Model):
    """``kind: BotSession``."""

    metadata: Metadata
    spec: BotSessionSpec
    status: BotSessionStatus = BotSessionStatus()


def resolve_limits(session: BotSession, bot: Bot | None) -> Limits:
    """BotSession, else Bot, else built-in; limit by limit."""
    of_bot = bot.spec.session.model_dump(exclude_none=True) if bot else {}
    return Limits(**(of_bot | session.spec.session.model_dump(exclude_none=True)))
