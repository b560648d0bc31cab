"""``make kind``: a cluster of kind's on this machine, for those with Docker: our images loaded, the chart installed.

Bots there talk to the real Daily and OpenAI, with the keys of the environment or of .env.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dotenv
import yaml

from pipecat_local import images
from pipecat_local.assets import MODULES, MissingBinary
from pipecat_local.stack import NAMESPACE, ROOT

CONFIG: Final = MODULES / "kind" / "cluster.yaml"
CHART: Final = ROOT / "helm" / "pipecat-operator"
VALUES: Final = ROOT / "examples" / "values-kind.yaml"
BOT: Final = ROOT / "examples" / "bot.yaml"
CLUSTER: Final[str] = yaml.safe_load(CONFIG.read_text())["name"]
CONTEXT: Final = f"kind-{CLUSTER}"
"""As kind names it."""
RELEASE: Final = "pipecat"
SESSIONS: Final = "default"
"""The namespace of Bots and sessions."""

TOOLS: Final = {
    "docker": "https://docs.docker.com/get-started/get-docker/",
    "kind": "https://kind.sigs.k8s.io",
    "helm": "https://helm.sh/docs/intro/install/",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}
"""What must be there, and where it is had."""
KEYS: Final = ("DAILY_API_KEY", "OPENAI_API_KEY")
DOCKER_S: Final = 30

USE: Final = f"""
The operator runs, in the cluster {CLUSTER}. A conversation:

  kubectl --context {CONTEXT} apply --filename examples/session.yaml
  kubectl --context {CONTEXT} get botsessions --watch

kind delete cluster --name {CLUSTER} ends all of it.
"""


class CannotRun(Exception):
    """Something is missing here; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what it does in words."""

    what: str
    command: tuple[str, ...]
    stdin: str | None = field(default=None, repr=False)
    """Where a secret is told: a command can be seen by everybody."""


def keys(environ: Mapping[str, str], file: Path) -> dict[str, str]:
    """The keys, of the environment or else of the file.

    Raises:
        CannotRun: naming those that are missing.
    """
    given = {**dotenv.dotenv_values(file), **environ}
    found = {name: value for name in KEYS if (value := given.get(name))}
    if missing := [name for name in KEYS if name not in found]:
        raise CannotRun(
            f"Set {' and '.join(missing)} in the environment or in .env: bots on kind talk to the real ones."
        )
    return found


def look_for_tools() -> None:
    """Raises CannotRun when one is missing, or Docker's daemon does not answer."""
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        wanted = "".join(f"\n  {name}: {TOOLS[name]}" for name in missing)
        raise CannotRun(f"make kind needs {', '.join(TOOLS)}. Missing here:{wanted}\nWithout Docker: make demo.")
    try:
        answered = subprocess.run(["docker", "info"], capture_output=True, timeout=DOCKER_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotRun("Docker's daemon does not answer: is it running?") from error
    if answered.returncode:
        raise CannotRun(f"Docker does not work here: {answered.stderr.decode(errors='replace').strip()}")


def steps(there: bool, archives: Sequence[Path], given: Mapping[str, str]) -> Iterator[Step]:
    """From nothing, or from a cluster that is there, to an operator that runs."""
    kubectl = ("kubectl", "--context", CONTEXT)
    helm = ("helm", "--kube-context", CONTEXT, "--namespace", NAMESPACE)
    if not there:
        yield Step("the cluster", ("kind", "create", "cluster", "--config", str(CONFIG), "--wait", "180s"))
    for archive in archives:
        load = ("kind", "load", "image-archive", str(archive), "--name", CLUSTER)
        yield Step(f"image {archive.stem}", load)
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _secret(NAMESPACE, "pipecat-daily", {"DAILY_API_KEY": given["DAILY_API_KEY"]}),
        _secret(SESSIONS, "bot-keys", {"OPENAI_API_KEY": given["OPENAI_API_KEY"]}),
    ]
    applied = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    yield Step("namespace and keys", (*kubectl, "apply", "--server-side", "--filename", "-"), applied)
    wait = ("--values", str(VALUES), "--wait", "--timeout", "5m")
    yield Step("the chart", (*helm, "upgrade", "--install", RELEASE, str(CHART), *wait))
    if there:
        # The tag of the images is the same as before, so nothing else takes the new ones.
        rollout = (*kubectl, "--namespace", NAMESPACE, "rollout")
        ours = ("deployment", "--selector", f"app.kubernetes.io/instance={RELEASE}")
        yield Step("the new images", (*rollout, "restart", *ours))
        yield Step("their pods", (*rollout, "status", *ours, "--timeout", "5m"))
    yield Step("the chart's own test", (*helm, "test", RELEASE, "--timeout", "3m"))
    yield Step("a Bot", (*kubectl, "--namespace", SESSIONS, "apply", "--filename", str(BOT)))


def _secret(namespace: str, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(data)}


def _there() -> bool:
    """Whether the cluster is."""
    listed = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True)
    return CLUSTER in listed.stdout.split()


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m pipecat_local.kind", description=__doc__).parse_args()
    try:
        look_for_tools()
        given = keys(os.environ, ROOT / ".env")
        for step in steps(_there(), images.build(), given):
            sys.stdout.write(f"  {step.what}\n")
            sys.stdout.flush()
            subprocess.run(step.command, input=step.stdin, text=True, check=True)
    except (CannotRun, MissingBinary) as missing:
        sys.exit(str(missing))
    except subprocess.CalledProcessError as failed:
        sys.exit(f"{failed.cmd[0]} failed, see above.")
    sys.stdout.write(USE)


if __name__ == "__main__":
    main()
