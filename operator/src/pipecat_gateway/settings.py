"""The gateway's settings: the environment, read and checked once at start."""

import ipaddress
from typing import Annotated, Literal

from pydantic import DirectoryPath, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipecat_gateway.wire.requests import NAME
from pipecat_operator.settings import Names, Namespace, SettingsError, explain

PREFIX = "PIPECAT_GATEWAY_"


class Settings(BaseSettings):
    """What can be set, as PREFIX + name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 7860
    """Pipecat's own runner's port."""
    namespace: Namespace = "default"
    """Where sessions are made, and their Bots looked for."""
    bot: Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")] = "assistant"
    """The Bot that /start_bot and /start start."""
    keys: DirectoryPath | None = None
    """The folder with the API keys, one file a key: a mounted Secret. None: everybody may everything."""
    cors_origins: Names = ()
    """Or *; none: no browser of another origin may call."""
    start_timeout_seconds: Annotated[float, Field(gt=0)] = 200
    """The longest that a start is waited for; the session's own startTimeoutSeconds normally ends it before."""
    drain_seconds: Annotated[float, Field(ge=0)] = 20
    """After SIGTERM, for what is in flight; starts that are left are stopped, and their callers told."""
    open_requests: Annotated[int, Field(ge=1)] = 1000
    """At once; whoever comes past it is told to try again."""
    proxied_requests: Annotated[int, Field(ge=1)] = 500
    """At once, to bots' own routes, besides: WebSockets that stay open must not keep anybody from a start."""
    proxy_idle_seconds: Annotated[float, Field(gt=0)] = 300
    """A request to a bot's own route in which neither side sends anything for so long is given up."""
    body_seconds: Annotated[float, Field(gt=0)] = 30
    """For a request's body to arrive."""
    head_seconds: Annotated[float, Field(gt=0)] = 10
    """For a request's head to arrive, once it has begun; a connection's first one, from when that was made."""
    idle_seconds: Annotated[float, Field(gt=0)] = 75
    """A connection that brings no further request for so long is closed."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def load(insecure: bool) -> Settings:
    """The settings of this process's environment.

    Raises:
        SettingsError: all that is wrong; or anybody could start bots.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(explain(error, PREFIX)) from None
    if settings.keys is None and not settings.loopback and not insecure:
        raise SettingsError(
            f"The gateway has no API keys, so anybody who reaches {settings.host} could start bots. "
            f"Let {PREFIX}KEYS name their folder (python -m pipecat_gateway.newkey makes one), keep {PREFIX}HOST on "
            f"loopback, or start with --insecure behind something that authenticates."
        )
    return settings
