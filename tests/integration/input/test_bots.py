"""Bots of every shape: refused with a message, or their sessions live or end with a clear reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.hostile import examples, fitting, hostile, schema, spoiled, texts

pytestmark = pytest.mark.usefixtures("beside")

ITS_SESSION = {
    "apiVersion": "pipecat.dev/v1alpha1",
    "kind": "BotSession",
    "metadata": {"name": "s"},
    "spec": {"botRef": {"name": "b"}},
}


def bot(spec: Any) -> dict[str, Any]:
    """A manifest."""
    return {"apiVersion": "pipecat.dev/v1alpha1", "kind": "Bot", "metadata": {"name": "b"}, "spec": spec}


env = st.lists(st.fixed_dictionaries({"name": texts, "value": st.just("1")}), max_size=2)
containers = st.fixed_dictionaries(
    {"name": st.sampled_from(["bot", "beside"])},
    optional={
        "image": st.just("x"),
        "env": env,
        "ports": st.just([{"containerPort": 8080, "name": "http"}]),
        "volumeMounts": st.just([{"name": "tmp", "mountPath": "/tmp"}]),
        "resources": st.just({"limits": {"cpu": 1}}),
        "securityContext": st.just({"runAsUser": 7}),
    },
)
pod_templates = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.just({"labels": {"a": "b"}, "annotations": {"c": "d"}}),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": st.lists(containers, max_size=2),
                "initContainers": st.lists(containers, max_size=1),
                "volumes": st.just([{"name": "tmp", "emptyDir": {}}, {"name": "more", "emptyDir": {}}]),
                "imagePullSecrets": st.just([{"name": "pull"}]),
                "tolerations": st.just([{"operator": "Exists"}]),
                "nodeSelector": st.just({"no": "node"}),
                "securityContext": st.just({"fsGroup": 1}),
                "terminationGracePeriodSeconds": st.just(5),
            },
        ),
    },
)


@examples(40)
@given(spec=spoiled(fitting(schema("Bot", "spec"))))
def test_a_spec(ground, spec: Any):
    ground.bears("bots", bot(spec), ITS_SESSION)


@examples(40)
@given(template=spoiled(pod_templates))
def test_a_pod_template(ground, template: Any):
    ground.bears("bots", bot({"image": "x", "podTemplate": template}), ITS_SESSION)


@examples(20)
@given(
    room=st.dictionaries(st.sampled_from(["geo", "max_participants", "enable_chat", "x"]) | texts, hostile, max_size=3)
)
def test_a_room(ground, room: Any):
    ground.bears("bots", bot({"image": "x", "room": room}), ITS_SESSION)
