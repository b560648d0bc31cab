"""BotSessions of every shape: refused with a message, or they live or end with a clear reason."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.hostile import STRINGS, TEXTS, examples, fitting, mostly, schema, spoiled

pytestmark = pytest.mark.usefixtures("beside")

SCHEMA = schema("BotSession", "spec")
NAMES = (*TEXTS, *(f"{name}-" for name in TEXTS), "9", "a.b", "x" * 63)


def session(spec: Any, **metadata: Any) -> dict[str, Any]:
    """A manifest."""
    return {
        "apiVersion": "pipecat.dev/v1alpha1",
        "kind": "BotSession",
        "metadata": {"name": "s", **metadata},
        "spec": spec,
    }


specs = st.builds(
    lambda spec, bot, stop: {**spec, "botRef": bot, "stop": stop},
    fitting(SCHEMA),
    mostly({"name": "good"}, fitting(SCHEMA["properties"]["botRef"])),
    mostly(False, st.booleans()),
)


@examples(40)
@given(spec=spoiled(specs))
def test_a_spec(ground, spec: Any):
    ground.bears("botsessions", session(spec))


@examples(20)
@given(name=mostly("s", st.sampled_from(NAMES)), labels=mostly({}, STRINGS), annotations=STRINGS)
@example("s", {}, {"kopf.zalando.org/last-handled-configuration": "no JSON"})
def test_metadata(ground, name: str, labels: Any, annotations: Any):
    ground.bears(
        "botsessions", session({"botRef": {"name": "good"}}, name=name, labels=labels, annotations=annotations)
    )
