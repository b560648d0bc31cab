"""Whatever is toggled, the chart gives objects that Kubernetes takes, and pods that PSA restricted lets in."""

import functools
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from helm_python import Chart, HelmRenderError
from hypothesis import given, settings
from hypothesis import strategies as st

from pipecat_gateway import settings as gateway
from pipecat_operator import settings as operator

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "pipecat-operator"
KUBERNETES = ("1.31", "1.37")
"""The oldest that Chart.yaml allows, and the newest that there are schemas of."""
DIGEST = f"sha256:{'0' * 64}"
DIGITS = "0123"
"""A name that Kubernetes takes, and that YAML takes for a number."""
CUSTOM = ("pipecat.dev", "monitoring.coreos.com", "gateway.networking.k8s.io")

TOGGLES = st.fixed_dictionaries(
    {
        "crds": st.fixed_dictionaries({"install": st.booleans(), "keep": st.booleans()}),
        "image": st.fixed_dictionaries(
            {
                "registry": st.sampled_from(["", "r.example"]),
                "tag": st.sampled_from(["", "1.2.3"]),
                "digest": st.sampled_from(["", DIGEST]),
                "pullSecrets": st.sampled_from([[], [DIGITS]]),
            }
        ),
        "watchNamespaces": st.sampled_from([[], ["default"], ["default", DIGITS]]),
        "gateway": st.fixed_dictionaries(
            {
                "enabled": st.booleans(),
                "namespace": st.just("default"),
                "autoscaling": st.fixed_dictionaries({"enabled": st.booleans()}),
                "ingress": st.fixed_dictionaries(
                    {
                        "enabled": st.booleans(),
                        "className": st.sampled_from(["", DIGITS]),
                        "host": st.sampled_from(["", "*.a.example"]),
                        "tlsSecret": st.sampled_from(["", DIGITS]),
                    }
                ),
                "httpRoute": st.fixed_dictionaries(
                    {"enabled": st.booleans(), "parentRefs": st.just([{"name": "web"}])}
                ),
            }
        ),
        "daily": st.fixed_dictionaries(
            {"existingSecret": st.sampled_from(["pipecat-daily", DIGITS]), "key": st.sampled_from(["key", DIGITS])}
        ),
        "operator": st.fixed_dictionaries({"priorityClassName": st.sampled_from(["", DIGITS])}),
        "bots": st.sampled_from([{}, {DIGITS: {"namespace": "default", "spec": {"image": "pipecat-bot"}}}]),
        "networkPolicy": st.fixed_dictionaries(
            {
                "enabled": st.booleans(),
                "bots": st.fixed_dictionaries({"namespaces": st.sampled_from([[], [DIGITS]])}),
            }
        ),
        "metrics": st.fixed_dictionaries(
            {
                "monitor": st.sampled_from(["none", "PodMonitor", "ServiceMonitor"]),
                "alerts": st.booleans(),
                "dashboard": st.booleans(),
            }
        ),
    }
)


def check(rendered: dict[str, Any]) -> None:
    """Against the schemas of Kubernetes, which know no resource of others."""
    if not rendered["apiVersion"].startswith(CUSTOM) and rendered["kind"] != "CustomResourceDefinition":
        validate(json.dumps(rendered, sort_keys=True))


@functools.cache
def validate(rendered: str) -> None:
    """Most objects are the same in most combinations."""
    for version in KUBERNETES:
        kubernetes_validate.validate(json.loads(rendered), version, strict=True)


def pods(rendered: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The spec of every pod in it."""
    for item in rendered:
        if item["kind"] == "Pod":
            yield item["spec"]
        elif "template" in item.get("spec", {}):
            yield item["spec"]["template"]["spec"]


@settings(deadline=None, max_examples=50)
@given(values=TOGGLES, who=st.sampled_from([{"auth": {"insecure": True}}, {"apiKeys": {"secretName": DIGITS}}]))
def test_every_combination_is_what_kubernetes_takes(render, values, who):
    values = {**values, "gateway": {**values["gateway"], **who}}
    rendered = render(values)
    named = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in rendered]
    assert len(named) == len(set(named))
    # Those of others, too, which have no schema here.
    assert all(isinstance(name, str) for _, *names in named for name in names if name is not None)
    for item in rendered:
        check(item)


def test_everything_on_is_what_kubernetes_takes(render, everything):
    rendered = render(everything)
    assert len(rendered) > 30
    for item in rendered:
        check(item)


def test_what_the_tests_install_is_what_kubernetes_takes(render):
    rendered = render(yaml.safe_load((ROOT / "tests" / "e2e" / "manifests" / "values.yaml").read_text()))
    assert "NetworkPolicy" in {item["kind"] for item in rendered}
    for item in rendered:
        check(item)


def test_two_renderings_are_the_same(everything):
    def rendered() -> dict[str, str]:
        with Chart.load(CHART) as chart:
            return chart.render(everything, name="pipecat", namespace="pipecat-system")

    assert rendered() == rendered()


def test_lint_has_nothing_to_say(everything):
    for values in ({}, everything):
        report = helm_python.lint(CHART, values, strict=True)
        assert report["errors"] == []
        assert [told["error"] for told in report["messages"]] == ["icon is recommended"]


def test_it_is_of_the_operators_version(chart):
    told = (ROOT / "operator" / "pyproject.toml").read_text()
    assert f'version = "{chart.metadata["appVersion"]}"' in told


def test_nothing_depends_on_the_cluster_or_the_moment(chart):
    unsteady = re.compile(r"\b(lookup|rand\w+|gen[A-Z]\w+|uuidv4|now|Capabilities)\b")
    assert [file["name"] for file in chart.templates if unsteady.search(file["data"])] == []


@pytest.mark.parametrize(
    ("release", "deployment"),
    [
        ("pipecat", "pipecat-operator"),
        ("pipecat-operator", "pipecat-operator"),
        ("prod", "prod-pipecat-operator"),
        ("x" * 53, f"{'x' * 46}-operator"),
    ],
)
def test_names_are_ones_that_kubernetes_takes(render, everything, release, deployment):
    made = render(everything, name=release)
    assert deployment in {item["metadata"]["name"] for item in made}
    bound = {"ValidatingAdmissionPolicy": 253, "ValidatingAdmissionPolicyBinding": 253}
    assert [item for item in made if len(item["metadata"]["name"]) > bound.get(item["kind"], 63)] == []


def test_every_pod_passes_pod_security_restricted(render, everything):
    found = list(pods(render(everything)))
    assert len(found) == 3
    for spec in found:
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert [volume.keys() - {"name"} for volume in spec.get("volumes", ())] in ([], [{"secret"}])
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not any("hostPort" in port for port in container.get("ports", ()))
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


def environment(rendered: list[dict[str, Any]], program: str) -> dict[str, str]:
    """The environment of the operator's or the gateway's container."""
    return {v["name"]: v.get("value", "a-key") for v in container(rendered, program)["env"]}


def container(rendered: list[dict[str, Any]], program: str) -> dict[str, Any]:
    """The container of that name."""
    (found,) = (c for spec in pods(rendered) for c in spec["containers"] if c["name"] == program)
    return found


@pytest.mark.parametrize(
    ("program", "module", "own"),
    [
        ("operator", operator, {"daily_api_key", "http_host", "log_format"}),
        ("gateway", gateway, {"host", "log_format"}),
    ],
)
def test_the_environment_is_what_the_program_reads(render, everything, monkeypatch, program, module, own):
    variables = {
        name: name.upper() if name.startswith("daily_api_") else module.PREFIX + name.upper()
        for name in module.Settings.model_fields
    }
    # The operator's namespace is its pod's.
    settable = set(variables.values()) - {"PIPECAT_OPERATOR_NAMESPACE"}
    allocators = {"MALLOC_MMAP_THRESHOLD_"} if program == "gateway" else set()
    assert environment(render(everything), program).keys() == settable | allocators

    rendered = render({"gateway": {"enabled": True, "auth": {"insecure": True}, "namespace": "default"}})
    monkeypatch.setenv("DAILY_API_KEY", "another")
    defaults = module.Settings()
    for name, value in environment(rendered, program).items():
        monkeypatch.setenv(name, value)
    chosen = module.Settings()
    assert {name for name in variables if getattr(chosen, name) != getattr(defaults, name)} == own
    port = chosen.http_port if program == "operator" else chosen.port
    assert [told["containerPort"] for told in container(rendered, program)["ports"]] == [port]


def test_the_images_entrypoint_is_pid_1(render, everything):
    # A command would take its place, and with it what reaps and passes signals on.
    rendered = render(everything)
    assert container(rendered, "operator")["args"][:3] == ["python", "-m", "pipecat_operator"]
    assert container(rendered, "gateway")["args"][:3] == ["python", "-m", "pipecat_gateway"]
    commanded = [c["name"] for spec in pods(rendered) for c in spec["containers"] if "command" in c]
    assert commanded == ["test"]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ({}, "pipecat-operator:0.1.0"),
        ({"registry": "r.example/team", "tag": "1"}, "r.example/team/pipecat-operator:1"),
        ({"registry": "r.example", "digest": DIGEST}, f"r.example/pipecat-operator@{DIGEST}"),
        ({"tag": "1", "digest": DIGEST}, f"pipecat-operator:1@{DIGEST}"),
    ],
)
def test_one_image(render, everything, image, name):
    rendered = render({**everything, "image": image})
    assert {container["image"] for spec in pods(rendered) for container in spec["containers"]} == {name}


def test_secrets_are_references(render, everything):
    rendered = render(everything)
    assert not [item for item in rendered if item["kind"] == "Secret"]
    variables = [v for spec in pods(rendered) for c in spec["containers"] for v in c.get("env", ())]
    secret = [v for v in variables if "KEY" in v["name"] and v["name"] != "PIPECAT_GATEWAY_KEYS"]  # a path
    assert secret == [
        {"name": "DAILY_API_KEY", "valueFrom": {"secretKeyRef": {"name": "pipecat-daily", "key": "DAILY_API_KEY"}}}
    ]


def test_the_keys_are_a_folder_that_is_read_only_and_may_come_later(render, everything):
    rendered = render(everything)
    (volume,) = (v for spec in pods(rendered) for v in spec.get("volumes", ()))
    (mount,) = container(rendered, "gateway")["volumeMounts"]
    # With a subPath no change would get in.
    told = {"name": volume["name"], "mountPath": environment(rendered, "gateway")["PIPECAT_GATEWAY_KEYS"]}
    assert mount == {**told, "readOnly": True}
    assert volume["secret"] == {"secretName": "pipecat-api-keys", "optional": True}
    assert "--insecure" not in container(rendered, "gateway")["args"]


def test_the_crds_are_those_of_the_repository(render, chart, tmp_path):
    ours = {file.name: file for file in (ROOT / "crds").glob("*.yaml")}
    assert ours
    with tarfile.open(helm_python.package(CHART, destination=tmp_path)) as package:
        for name, file in ours.items():
            packaged = package.extractfile(f"pipecat-operator/files/crds/{name}")
            assert packaged
            assert packaged.read() == file.read_bytes(), f"cp crds/{name} helm/pipecat-operator/files/crds/"
    for keep in (True, False):
        rendered = [item for item in render({"crds": {"keep": keep}}) if item["kind"] == "CustomResourceDefinition"]
        assert len(rendered) == len(ours)
        for crd in rendered:
            annotations = crd["metadata"].pop("annotations", None)
            assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else None)
            assert crd in [yaml.safe_load(file.read_text()) for file in ours.values()]


def test_the_route_ends_no_request(render, everything):
    (route,) = (item for item in render(everything) if item["kind"] == "HTTPRoute")
    assert [rule["timeouts"] for rule in route["spec"]["rules"]] == [{"request": "0s"}]


def test_nothing_of_the_chart_is_a_link():
    # Flux leaves links out when it takes a chart from Git: it would come without its CRDs.
    assert [path for path in CHART.rglob("*") if path.is_symlink()] == []


def test_a_chart_that_has_lost_its_crds_is_refused(tmp_path):
    shutil.copytree(CHART, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("crds"))
    with Chart.load(tmp_path) as robbed:
        assert robbed.render({"crds": {"install": False}})
        with pytest.raises(HelmRenderError, match=r"files/crds is empty"):
            robbed.render()
