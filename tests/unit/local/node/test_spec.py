"""What a pod's spec, its Secrets and the image map make of a container."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_local.node import spec
from pipecat_local.node.spec import ConfigError, Folders, Host, Image, MountError, Sources

HOST = Host("node-1", "127.0.0.1", {"cpu": "4", "memory": "8Gi"}, path="/bin", pythonpath=("/stand-in",))
FOLDERS = Folders(Path("/d/pods/u1"))
SOURCES = Sources(secrets={"keys": {"token": b"s3cret"}}, config_maps={"settings": {"colour": b"blue"}})
IMAGE = Image(("python", "-m", "pipecat_bot"), "/src", {"FROM_IMAGE": "1", "PYTHONPATH": "/image"})
names = st.text("ABC", min_size=1, max_size=3)


def pod(spec_: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    metadata = {"name": "p1", "namespace": "n1", "uid": "u1", "labels": {"app.kubernetes.io/name": "x"}}
    return {
        "metadata": metadata,
        "spec": {"restartPolicy": "Never", "containers": [{"name": "bot", "image": "i", **container}], **(spec_ or {})},
    }


def environment(*env: dict[str, Any], **container: Any) -> dict[str, str]:
    made = pod(env=list(env), **container)
    return spec.environment(made, made["spec"]["containers"][0], SOURCES, HOST, "127.64.0.9")


def command(made: dict[str, Any], image: Image = IMAGE) -> spec.Command:
    return spec.command(made, made["spec"]["containers"][0], image, SOURCES, HOST, "127.64.0.9", FOLDERS)


def files(volume: dict[str, Any], sources: Sources = SOURCES) -> dict[str, tuple[bytes, int]]:
    found = spec.volume_files(pod(), {"name": "v", **volume}, sources, HOST, "127.64.0.9")
    return {str(file.path): (file.content, file.mode) for file in found}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(A", "$(A"),
        ("$A $", "$A $"),
        ("$($(A))", "$($(A))"),
    ],
)
def test_references_expand_as_in_kubernetes(text: str, expanded: str) -> None:
    assert spec.expand(text, {"A": "1"}) == expanded


@given(st.text(), st.dictionaries(names, st.text()))
def test_a_text_with_its_dollars_doubled_comes_out_as_it_was(text: str, values: dict[str, str]) -> None:
    assert spec.expand(text.replace("$", "$$"), values) == text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p1"),
        ("metadata.namespace", "n1"),
        ("metadata.uid", "u1"),
        ("metadata.labels['app.kubernetes.io/name']", "x"),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", 'app.kubernetes.io/name="x"'),
        ("spec.nodeName", "node-1"),
        ("status.hostIP", "127.0.0.1"),
        ("status.podIP", "127.64.0.9"),
    ],
)
def test_fields_of_the_pod(path: str, value: str) -> None:
    assert environment({"name": "E", "valueFrom": {"fieldRef": {"fieldPath": path}}}) == {"E": value}


def test_env_comes_after_env_from_and_sees_it() -> None:
    sources = [{"secretRef": {"name": "keys"}}, {"configMapRef": {"name": "settings"}, "prefix": "MY_"}]
    found = environment({"name": "E", "value": "$(token)"}, {"name": "MY_colour", "value": "red"}, envFrom=sources)
    assert found == {"token": "s3cret", "MY_colour": "red", "E": "s3cret"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found'),
        ({"secretKeyRef": {"name": "keys", "key": "k"}}, "couldn't find key k in Secret n1/keys"),
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "settings", "key": "k"}}, "couldn't find key k in ConfigMap n1/settings"),
        ({"fieldRef": {"fieldPath": "spec.nope"}}, "unsupported fieldPath: spec.nope"),
        ({"fileKeyRef": {}}, "can't resolve fileKeyRef"),
    ],
)
def test_what_is_missing_is_named_in_kubelet_s_words(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        environment({"name": "E", "valueFrom": source})


@pytest.mark.parametrize("name", ["none", "keys"])
def test_what_is_missing_but_optional_is_left_out(name: str) -> None:
    source = {"secretKeyRef": {"name": name, "key": "k", "optional": True}}
    assert environment({"name": "E", "valueFrom": source}) == {}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "requests.cpu"}, "1"),
        ({"resource": "requests.cpu", "divisor": "1m"}, "250"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "300"),
        ({"resource": "limits.cpu"}, "4"),
        ({"resource": "limits.memory", "divisor": "1Gi"}, "8"),
    ],
)
def test_resources_in_units_of_the_divisor_rounded_up(reference: dict[str, str], value: str) -> None:
    resources = {"requests": {"cpu": "250m", "memory": "300Mi"}}
    env = {"name": "E", "valueFrom": {"resourceFieldRef": reference}}
    assert environment(env, resources=resources) == {"E": value}


@pytest.mark.parametrize(
    ("text", "amount"), [("1", 1), ("1.5Gi", 1.5 * 2**30), ("2k", 2000), ("1e3", 1000), ("1E", 1e18)]
)
def test_quantities(text: str, amount: float) -> None:
    assert spec.quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "x", "1ki", "1.2.3", "--1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a quantity"):
        spec.quantity(text)


@pytest.mark.parametrize(
    ("container", "argv"),
    [
        ({}, ("python", "-m", "pipecat_bot")),
        ({"args": ["-v"]}, ("python", "-m", "pipecat_bot", "-v")),
        ({"command": ["sh"]}, ("sh",)),
        ({"command": ["sh"], "args": ["$(E)"], "env": [{"name": "E", "value": "v"}]}, ("sh", "v")),
    ],
)
def test_command_replaces_the_image_s_and_args_follow(container: dict[str, Any], argv: tuple[str, ...]) -> None:
    assert command(pod(**container)).argv == argv


def test_an_image_without_a_command_needs_one() -> None:
    with pytest.raises(ConfigError, match="no command specified"):
        command(pod(), Image(()))


def test_the_environment_is_the_image_s_the_pod_s_and_little_else() -> None:
    made = command(pod(env=[{"name": "FROM_IMAGE", "value": "2"}]))
    assert made.env == {
        "PATH": "/bin",
        "HOME": "/d/pods/u1/containers/bot/home",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": "/stand-in:/image",
        "PIPECAT_LOCAL_CONTAINER": "/d/pods/u1/containers/bot",
        "FROM_IMAGE": "2",
    }


def test_paths_under_a_mount_or_of_the_termination_log_are_the_node_s() -> None:
    mounts = [
        {"name": "session", "mountPath": "/var/run/pipecat"},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "tmp", "mountPath": "/tmp/deep", "subPath": "sub"},
    ]
    env = {
        "BODY": "/var/run/pipecat/body.json",
        "OTHER": "/var/run/pipecat-other",
        "WHY": "/dev/termination-log",
        "DEEP": "/tmp/deep/x",
    }
    made = command(
        pod(
            args=["/tmp/x"],
            env=[{"name": key, "value": value} for key, value in env.items()],
            volumeMounts=mounts,
            terminationMessagePath="/dev/termination-log",
        )
    )
    assert {key: made.env[key] for key in [*env, "TMPDIR"]} == {
        "BODY": "/d/pods/u1/volumes/session/body.json",
        "OTHER": "/var/run/pipecat-other",
        "WHY": "/d/pods/u1/containers/bot/termination-log",
        "DEEP": "/d/pods/u1/volumes/tmp/sub/x",
        "TMPDIR": "/d/pods/u1/volumes/tmp",
    }
    assert made.argv[-1] == "/d/pods/u1/volumes/tmp/x"


def test_paths_of_the_image_map_are_this_machine_s_and_stay() -> None:
    image = Image(("/tmp/program",), "/tmp", {"WHERE": "/tmp/x"})
    made = command(pod(volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}]), image)
    assert (made.argv, made.cwd, made.env["WHERE"]) == (("/tmp/program",), Path("/tmp"), "/tmp/x")


def test_a_secret_volume_has_all_keys_or_the_items() -> None:
    assert files({"secret": {"secretName": "keys"}}) == {"token": (b"s3cret", 0o644)}
    items = [{"key": "token", "path": "a/b", "mode": 0o600}]
    assert files({"secret": {"secretName": "keys", "items": items}}) == {"a/b": (b"s3cret", 0o600)}
    assert files({"configMap": {"name": "settings", "defaultMode": 0o440}}) == {"colour": (b"blue", 0o440)}
    assert files({"emptyDir": {}}) == {}


def test_a_projected_volume_joins_its_sources_but_service_account_tokens() -> None:
    fields = [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
    sources = [
        {"secret": {"name": "keys"}},
        {"downwardAPI": {"items": fields}},
        {"serviceAccountToken": {"path": "token"}},
    ]
    assert files({"projected": {"sources": sources}}) == {"token": (b"s3cret", 0o644), "name": (b"p1", 0o644)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        (
            {"secret": {"secretName": "keys", "items": [{"key": "k", "path": "k"}]}},
            "references non-existent secret key: k",
        ),
    ],
)
def test_a_volume_without_its_source_is_a_failed_mount(source: dict[str, Any], message: str) -> None:
    with pytest.raises(MountError, match=f'MountVolume.SetUp failed for volume "v" : {message}'):
        files(source)
    kind = next(iter(source))
    assert files({kind: {**source[kind], "optional": True}}) == {}


def test_all_secrets_and_config_maps_a_pod_reads_are_known() -> None:
    made = pod(
        {
            "volumes": [
                {"name": "a", "secret": {"secretName": "s1"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "c1"}}, {"secret": {"name": "s2"}}]}},
            ]
        },
        env=[
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}},
            {"name": "C", "value": "x"},
        ],
        envFrom=[{"secretRef": {"name": "s4"}}, {"configMapRef": {"name": "c3"}}],
    )
    assert spec.references(made) == ({"s1", "s2", "s3", "s4"}, {"c1", "c2", "c3"})


@pytest.mark.parametrize(
    ("spec_", "container", "named"),
    [
        ({"initContainers": [{}]}, {}, "spec.initContainers"),
        ({"restartPolicy": "Always"}, {}, "restartPolicy Always"),
        ({"hostNetwork": True}, {}, "spec.hostNetwork"),
        ({"volumes": [{"name": "v", "hostPath": {}}]}, {}, "volume v of kind hostPath"),
        ({}, {"lifecycle": {"preStop": {}}}, "lifecycle of container bot"),
        ({}, {"readinessProbe": {"grpc": {}}}, "a gRPC readinessProbe of container bot"),
        (
            {},
            {"volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(X)"}]},
            "subPathExpr of container bot",
        ),
    ],
)
def test_what_no_process_node_can_do_is_named(spec_: dict[str, Any], container: dict[str, Any], named: str) -> None:
    assert spec.unsupported(pod(spec_, **container)) == [named]


def test_what_a_bot_s_pod_asks_for_is_supported() -> None:
    volumes = [{"name": "session", "secret": {"secretName": "s"}}, {"name": "tmp", "emptyDir": {}}]
    assert spec.unsupported(pod({"volumes": volumes}, readinessProbe={"httpGet": {"port": 8080}})) == []


def test_the_image_map() -> None:
    text = '{"images": {"a": {"command": ["x"], "workingDir": "/w", "env": {"N": 1}}, "b": {}}}'
    assert spec.images(text) == {"a": Image(("x",), "/w", {"N": "1"}), "b": Image(())}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": []}', '{"images": {"a": []}}', '{"images": {"a": {"command": "x"}}}']
)
def test_a_broken_image_map_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"image|Expecting"):
        spec.images(text)
