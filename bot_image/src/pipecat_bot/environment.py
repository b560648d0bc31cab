"""What a pod is told about its session: environment variables and the body's file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError, model_validator

from pipecat_bot.lifecycle import Limits

_HINTS: Final = {
    "DAILY_ROOM_URL": "the Daily room to join (or -u URL)",
    "DAILY_ROOM_TOKEN": "the bot's meeting token (or -t TOKEN)",
}


class BadEnvironment(Exception):
    """The environment does not describe a session; the text names all that is wrong."""


def _web_address(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("is not a web address")
    return value


def _body(file: str) -> Any:
    """What the file holds; ``{}`` when there is no body, as Pipecat's own RunnerArguments have it."""
    try:
        body = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError("does not hold JSON") from error
    return {} if body is None else body


class Environment(BaseModel):
    """Defaults are the operator's, for trying a bot without it."""

    room_url: Annotated[str, AfterValidator(_web_address)] = Field(alias="DAILY_ROOM_URL")
    token: SecretStr = Field(alias="DAILY_ROOM_TOKEN", min_length=1)
    session_id: str | None = Field(None, alias="PIPECAT_SESSION_ID")
    body: Annotated[Any, BeforeValidator(_body)] = Field(default_factory=dict, alias="PIPECAT_SESSION_BODY_FILE")
    max_duration: int = Field(3600, alias="PIPECAT_MAX_DURATION_SECONDS", gt=0)
    join_timeout: int = Field(60, alias="PIPECAT_JOIN_TIMEOUT_SECONDS", gt=0)
    idle_timeout: int = Field(120, alias="PIPECAT_IDLE_TIMEOUT_SECONDS", gt=0)
    grace: int = Field(30, alias="PIPECAT_TERMINATION_GRACE_SECONDS", gt=0)
    bot_file: Path = Field(Path("bot.py"), alias="PIPECAT_BOT_FILE")
    setup_files: str = Field("", alias="PIPECAT_SETUP_FILES")

    @model_validator(mode="after")
    def _token_of_own_room(self) -> Self:
        """A body that names the room gets the room's token, as on Pipecat Cloud: it travels in a Secret only."""
        if isinstance(self.body, dict) and self.body.get("room_url") == self.room_url:
            self.body.setdefault("token", self.token.get_secret_value())
        return self

    @property
    def limits(self) -> Limits:
        """As the host's lifecycle wants them."""
        return Limits(self.max_duration, self.join_timeout, self.idle_timeout, self.grace)


def read(env: Mapping[str, str]) -> Environment:
    """The session that ``env`` describes.

    Raises:
        BadEnvironment: naming every variable that is missing or wrong.
    """
    try:
        return Environment.model_validate(dict(env))
    except ValidationError as error:
        problems = []
        # Without input: a wrong value may be a secret.
        for problem in error.errors(include_input=False, include_url=False):
            name = str(problem["loc"][0])
            if problem["type"] == "missing":
                problems.append(f"{name} is not set: {_HINTS[name]}")
            else:
                problems.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
        raise BadEnvironment("Cannot run a session: " + "; ".join(problems) + ".") from error
