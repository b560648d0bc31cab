"""Pods of one namespace, made of a shell script each."""

import json
from typing import Any

from pipecat_local.controlplane import Cluster

IMAGE = "busybox:test"
WAIT_S = 60


class Pods:
    """The pods of a namespace, seen through kubectl."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """In this namespace."""
        return self._cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def create(self, manifest: dict[str, Any]) -> None:
        """Any object."""
        self.kubectl("create", "--filename", "-", stdin=json.dumps(manifest))

    def run(
        self,
        name: str,
        script: str,
        container: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        """A pod whose only container runs that script. ``container``, ``metadata``, ``spec``: more of the manifest."""
        main = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "args": ["-c", script]}
        self.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": name}} | (metadata or {}),
                "spec": {"restartPolicy": "Never", "containers": [main | (container or {})]} | spec,
            }
        )

    def get(self, name: str) -> dict[str, Any]:
        """The pod as it is now."""
        pod: dict[str, Any] = json.loads(self.kubectl("get", "pod", name, "--output=json"))
        return pod

    def wait(self, name: str, condition: str) -> dict[str, Any]:
        """Until kubectl finds that condition true of it; answers the pod."""
        self.kubectl("wait", f"pod/{name}", f"--for={condition}", f"--timeout={WAIT_S - 5}s")
        return self.get(name)

    def wait_phase(self, name: str, phase: str) -> dict[str, Any]:
        """Until it has come to that phase."""
        return self.wait(name, f"jsonpath={{.status.phase}}={phase}")

    def wait_end(self, name: str) -> dict[str, Any]:
        """Until its container has ended, however."""
        return self.wait(name, "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}")

    def logs(self, name: str) -> str:
        """What it printed."""
        return self.kubectl("logs", name)


def terminated(pod: dict[str, Any]) -> dict[str, Any]:
    """How its container ended."""
    state: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return state
