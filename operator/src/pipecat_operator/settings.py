"""The operator's settings: the environment, read and checked once at start."""

import re
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "PIPECAT_OPERATOR_"


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A list in one variable, comma-separated."""

DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A namespace's name (RFC 1123). It becomes part of URLs as it is."""


def _checked(name: str) -> str:
    if not DNS_LABEL.fullmatch(name):
        said = "is not the name of a namespace: 1 to 63 of a-z, 0-9 and -, with no - at either end"
        raise PydanticCustomError("namespace", said)
    return name


Namespace = Annotated[str, AfterValidator(_checked)]


class TokenMinting(StrEnum):
    """How meeting tokens are made."""

    SELF_SIGNED = "self-signed"
    """Signed here with the Daily key, as Daily documents: no call per token."""
    REST = "rest"
    """By Daily's REST API: for keys whose domain refuses self-signed tokens."""


class SettingsError(Exception):
    """Everything that is wrong with the environment, in one message."""


class Settings(BaseSettings):
    """What can be set. Names in the environment: ``DAILY_API_KEY``, ``DAILY_API_URL``, else PREFIX + name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    daily_api_key: Annotated[SecretStr, Field(validation_alias="DAILY_API_KEY", min_length=1)]
    daily_api_url: Annotated[HttpUrl, Field(validation_alias="DAILY_API_URL")] = HttpUrl("https://api.daily.co/v1")
    daily_tokens: TokenMinting = TokenMinting.SELF_SIGNED
    daily_requests_per_second: Annotated[float, Field(gt=0)] = 20
    """Daily allows 20/s, or 100 in 5 s."""
    daily_deletes_per_second: Annotated[float, Field(gt=0)] = 2
    """Daily allows about 2/s, or 50 in 30 s."""

    namespace: Namespace | None = None
    """Where the Lease and the installation id are kept; the pod's own namespace when not set."""
    watch_namespaces: Annotated[tuple[Namespace, ...], NoDecode, BeforeValidator(_split)] = ()
    """None: the whole cluster."""
    installation_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,40}$")] | None = None
    """Part of every room's name; made once and kept in a ConfigMap when not set."""

    http_host: Annotated[str, Field(validation_alias=AliasChoices(PREFIX + "HTTP_HOST", "POD_IP"))] = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """/healthz, /readyz, /metrics."""

    workers: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Sessions reconciled at once. Each that waits for its turn at Daily takes a worker from the others."""
    resync_seconds: Annotated[float, Field(gt=0)] = 300
    """Between two lists of everything, which repair what a watch lost."""
    sweep_seconds: Annotated[float, Field(gt=0)] = 600
    """Between two sweeps of rooms that nobody owns."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"


def load() -> Settings:
    """The settings of this process's environment.

    Raises:
        SettingsError: naming every variable that is missing or wrong, without its value.
    """
    try:
        return Settings()  # type: ignore[call-arg]  # filled from the environment
    except ValidationError as error:
        raise SettingsError(explain(error, PREFIX)) from None


def explain(error: ValidationError, prefix: str) -> str:
    """One line a problem; values stay out, they may be keys."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0])
        variable = name if name.isupper() else prefix + name.upper()
        said = "is not set" if problem["type"] == "missing" else problem["msg"]
        lines.append(f"  {variable}: {said}")
    return "Wrong settings:\n" + "\n".join(lines)
