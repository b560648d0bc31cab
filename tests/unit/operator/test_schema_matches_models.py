"""crds/ and api.py say the same, field by field, both ways."""

from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.dataclasses import is_pydantic_dataclass

from pipecat_operator.api import Bot, BotSession
from pipecat_operator.conditions import EndReason, Phase

CRDS = Path(__file__).parents[3] / "crds"
REFUSED = {"name", "exp", "nbf", "eject_at_room_exp", "eject_after_elapsed", "privacy"}
"""Daily properties of spec.room that the schema names only to refuse or bound them; the model keeps them free-form."""
FREE = {
    "spec.body",
    "spec.podTemplate",
    "spec.user.tokenProperties",
    "spec.resources.requests",
    "spec.resources.limits",
    "spec.env[]",
    "spec.envFrom[]",
}
"""Kept as Kubernetes writes them."""


def schema(kind: str) -> dict[str, Any]:
    crd = yaml.safe_load((CRDS / f"{kind.lower()}.yaml").read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]


def fields_of_schema(at: dict[str, Any], path: str) -> set[str]:
    found = {path}
    if path in FREE:
        return found
    for name, below in at.get("properties", {}).items():
        if path == "spec.room" and name in REFUSED:
            continue
        found |= fields_of_schema(below, f"{path}.{name}")
    if isinstance(at.get("items"), dict):
        found |= fields_of_schema(at["items"], f"{path}[]")
    return found


def model_in(annotation: Any) -> tuple[Any, bool]:
    """The model in an annotation, and whether it is one of many."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_pydantic_dataclass(annotation)):
        return annotation, False
    origin = get_origin(annotation)
    many = origin is tuple
    if origin in (Union, UnionType, tuple):
        for argument in get_args(annotation):
            model, inner = model_in(argument)
            if model:
                return model, many or inner
    return None, many


def fields_of_model(model: Any, path: str) -> set[str]:
    found = {path}
    for name, field in model.__pydantic_fields__.items():
        below, many = model_in(field.annotation)
        here = f"{path}.{field.alias or name}"
        found.add(here)
        if many:
            found.add(f"{here}[]")
        if below:
            found |= fields_of_model(below, f"{here}[]" if many else here)
    return found


@pytest.mark.parametrize(("kind", "model"), [("Bot", Bot), ("BotSession", BotSession)])
@pytest.mark.parametrize("part", ["spec", "status"])
def test_field_by_field(kind: str, model: type[BaseModel], part: str):
    below, _ = model_in(model.model_fields[part].annotation)
    assert below is not None
    assert fields_of_schema(schema(kind)[part], part) == fields_of_model(below, part)


def test_the_same_phases():
    assert set(schema("BotSession")["status"]["properties"]["phase"]["enum"]) == set(Phase)


def test_the_description_names_every_good_end():
    said = schema("BotSession")["status"]["properties"]["endReason"]["description"]
    assert all(reason in said for reason in EndReason if reason.phase is Phase.SUCCEEDED)
