"""``make kind``: what is done, in which order, and what is said where it can't be."""

import json
import stat
from pathlib import Path

import pytest
import yaml

from pipecat_local import images, kind
from pipecat_local.kind import CannotRun, Step

KEYS = {"DAILY_API_KEY": "a-key-of-daily", "OPENAI_API_KEY": "a-key-of-openai"}
ARCHIVES = [image.archive for image in images.IMAGES]


def steps(there: bool) -> list[Step]:
    """All of them."""
    return list(kind.steps(there, ARCHIVES, KEYS))


def words(step: Step) -> str:
    """Without what differs from cluster to cluster."""
    flags = {"--kube-context", "--context", kind.CONTEXT, "--namespace", kind.NAMESPACE, kind.SESSIONS}
    return " ".join([word for word in step.command if word not in flags][:3])


def test_from_nothing_to_a_bot():
    assert [words(step) for step in steps(there=False)] == [
        "kind create cluster",
        "kind load image-archive",
        "kind load image-archive",
        "kubectl apply --server-side",
        "helm upgrade --install",
        "helm test pipecat",
        "kubectl apply --filename",
    ]


def test_again_takes_the_new_images():
    assert [words(step) for step in steps(there=True)] == [
        "kind load image-archive",
        "kind load image-archive",
        "kubectl apply --server-side",
        "helm upgrade --install",
        "kubectl rollout restart",
        "kubectl rollout status",
        "helm test pipecat",
        "kubectl apply --filename",
    ]


def test_nothing_is_done_to_another_cluster():
    for step in steps(there=True):
        told = {"kind": "--name", "kubectl": "--context", "helm": "--kube-context"}[step.command[0]]
        at = step.command.index(told)
        assert step.command[at + 1] == (kind.CLUSTER if step.command[0] == "kind" else kind.CONTEXT)


def test_keys_are_told_in_secret_and_are_those_that_chart_and_bot_read():
    told = [step for step in steps(there=False) if any(key in str(step) for key in KEYS.values())]
    assert told == []
    (applied,) = (json.loads(step.stdin) for step in steps(there=False) if step.stdin)
    secrets = {item["metadata"]["name"]: item for item in applied["items"] if item["kind"] == "Secret"}
    values = yaml.safe_load((kind.CHART / "values.yaml").read_text())
    daily = secrets[values["daily"]["existingSecret"]]
    assert daily["stringData"] == {values["daily"]["key"]: "a-key-of-daily"}
    assert daily["metadata"]["namespace"] == kind.NAMESPACE
    (source,) = yaml.safe_load(kind.BOT.read_text())["spec"]["envFrom"]
    bots = secrets[source["secretRef"]["name"]]
    assert bots["stringData"] == {"OPENAI_API_KEY": "a-key-of-openai"}
    assert bots["metadata"]["namespace"] == kind.SESSIONS


def test_the_files_are_there_and_name_the_images_that_are_loaded():
    for step in steps(there=False):
        for word in step.command:
            if word.startswith("/") and not word.endswith(".tar"):
                assert Path(word).exists()
    loaded = {image.tag.rpartition("/")[2] for image in images.IMAGES}
    image = yaml.safe_load(kind.VALUES.read_text())["image"]
    assert loaded == {f"pipecat-operator:{image['tag']}", yaml.safe_load(kind.BOT.read_text())["spec"]["image"]}


def test_keys_of_the_environment_come_before_those_of_the_file(tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text("DAILY_API_KEY=of-the-file\nOPENAI_API_KEY=of-the-file\n")
    assert kind.keys({"DAILY_API_KEY": "given"}, file) == {"DAILY_API_KEY": "given", "OPENAI_API_KEY": "of-the-file"}


def test_missing_keys_are_named(tmp_path: Path):
    with pytest.raises(CannotRun, match=r"^Set OPENAI_API_KEY in the environment or in \.env"):
        kind.keys({"DAILY_API_KEY": "given"}, tmp_path / ".env")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with all that is needed on it, and no more."""
    for name in kind.TOOLS:
        program(tmp_path / name, "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path: Path, does: str) -> None:
    """A shell script."""
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_all_is_there(tools: Path):
    kind.look_for_tools()


@pytest.mark.parametrize("missing", kind.TOOLS)
def test_a_missing_tool_is_named_and_where_it_is_had(tools: Path, missing: str):
    (tools / missing).unlink()
    with pytest.raises(CannotRun, match=rf"Missing here:\n  {missing}: https://\S+\nWithout Docker: make demo\."):
        kind.look_for_tools()


def test_a_daemon_that_does_not_run_is_told(tools: Path):
    program(tools / "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(CannotRun, match="Docker does not work here: Cannot connect to the Docker daemon"):
        kind.look_for_tools()
