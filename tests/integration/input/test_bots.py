"""Bots of every shape: refused with a message, or their sessions live or end with a clear reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.hostile import anything, examples, fitting, free_objects, hostile, schema, scalars, spoiled, texts

pytestmark = pytest.mark.usefixtures("beside")

NAMED = {"containers": "bot", "initContainers": "first", "volumes": "tmp", "imagePullSecrets": "pull"}
ITS_SESSION = {
    "apiVersion": "pipecat.dev/v1alpha1",
    "kind": "BotSession",
    "metadata": {"name": "s"},
    "spec": {"botRef": {"name": "b"}},
}


def bot(spec: Any) -> dict[str, Any]:
    """A manifest."""
    return {"apiVersion": "pipecat.dev/v1alpha1", "kind": "Bot", "metadata": {"name": "b"}, "spec": spec}


def lists(name: str) -> st.SearchStrategy[Any]:
    """A list of a pod's spec whose items merge by name."""
    item = st.fixed_dictionaries(
        {},
        optional={
            "name": st.just(NAMED[name]) | scalars,
            "image": st.just("x") | scalars,
            "env": st.lists(st.fixed_dictionaries({}, optional={"name": texts, "value": scalars}), max_size=2) | scalars,
            "ports": anything,
            "volumeMounts": anything,
            "resources": anything,
        },
    )
    return st.lists(item | anything, max_size=3) | anything


pod_templates = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {}, optional={"labels": free_objects | scalars, "annotations": free_objects | scalars, "name": texts}
        )
        | scalars,
        "spec": st.fixed_dictionaries(
            {},
            optional={
                **{name: lists(name) for name in NAMED},
                "tolerations": anything,
                "restartPolicy": st.just("Never") | scalars,
                "securityContext": anything,
                "terminationGracePeriodSeconds": scalars,
                "nodeSelector": free_objects,
                "serviceAccountName": texts,
                "hostNetwork": scalars,
            },
        )
        | scalars,
    },
)


@examples(60)
@given(spec=spoiled(fitting(schema("Bot", "spec"))))
def test_a_spec(ground, spec: Any):
    ground.bears("bots", bot(spec), ITS_SESSION)


@examples(60)
@given(template=spoiled(pod_templates))
def test_a_pod_template(ground, template: Any):
    ground.bears("bots", bot({"image": "x", "podTemplate": template}), ITS_SESSION)


@examples(30)
@given(room=st.dictionaries(st.sampled_from(["geo", "max_participants", "enable_chat", "x"]) | texts, hostile, max_size=3))
def test_a_room(ground, room: Any):
    ground.bears("bots", bot({"image": "x", "room": room}), ITS_SESSION)
