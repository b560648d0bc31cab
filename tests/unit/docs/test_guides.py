"""README and the guides keep their word: what they name is there, and is as they say."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

from pipecat_bot.ending import Ending
from pipecat_bot.ending import EndReason as HostsReason
from pipecat_bot.environment import Environment
from pipecat_local import values_table
from pipecat_operator.api import Limits
from pipecat_operator.conditions import EndReason
from pipecat_operator.job import job_manifest, secret_manifest
from support.objects import NOW, bot, session

ROOT = Path(__file__).parents[3]
README, INSTALL, BOTS = ROOT / "README.md", ROOT / "docs" / "install.md", ROOT / "docs" / "bots.md"
GATEWAY = ROOT / "docs" / "gateway.md"
MIGRATE = ROOT / "docs" / "migrate-from-pipecat-cloud.md"
GUIDES = [README, INSTALL, BOTS, GATEWAY, MIGRATE]
CHART = ROOT / "helm" / "pipecat-operator"
CODE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(guide: Path, language: str) -> list[str]:
    """The code blocks in that language."""
    return [text for word, text in CODE.findall(guide.read_text()) if word == language]


def commands(guide: Path) -> list[str]:
    """What is typed, as written."""
    lines = [line.strip() for text in blocks(guide, "console") for line in text.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def table(guide: Path, heading: str) -> list[list[str]]:
    """The rows of the tables below that heading, without their heads."""
    section = guide.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in section.splitlines() if "|" in line
    ]
    rules = [at for at, row in enumerate(rows) if set("".join(row)) == {"-"}]
    return [row for at, row in enumerate(rows) if at not in rules and at + 1 not in rules]


@pytest.fixture(scope="module")
def chart() -> Iterator[Chart]:
    """The chart, loaded."""
    with Chart.load(CHART) as loaded:
        yield loaded


def rendered(chart: Chart, **gateway: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of an installation as the guide makes it, with a gateway; by kind and name."""
    values = {"gateway": {"enabled": True, "auth": {"insecure": True}, "namespace": "calls", **gateway}}
    files = chart.render(values, name="pipecat", namespace="pipecat-system")
    texts = [text for path, text in files.items() if not path.endswith(".txt")]
    items = [item for text in texts for item in yaml.safe_load_all(text) if item]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def flags(command: str) -> dict[str, Any]:
    """What a command sets by ``--set``, by path: a string, or a list of them."""
    words = shlex.split(command)
    given = (word.partition("=") for before, word in pairwise(words) if before == "--set")
    return {path: value[1:-1].split(",") if value.startswith("{") else value for path, _, value in given}


def values_of(command: str) -> dict[str, Any]:
    """The values that a command sets."""
    values: dict[str, Any] = {}
    for path, value in flags(command).items():
        *above, last = path.split(".")
        at = values
        for word in above:
            at = at.setdefault(word, {})
        at[last] = value
    return values


def test_the_values_tables_are_what_the_schema_gives():
    document = INSTALL.read_text()
    assert values_table.written(document) == document, "python -m pipecat_local.values_table"


@pytest.mark.parametrize("mark", [values_table.BEGIN, values_table.END])
def test_a_document_without_a_mark_is_left_alone(mark: str):
    with pytest.raises(ValueError, match="lost a mark"):
        values_table.written(INSTALL.read_text().replace(mark, ""))


def test_every_value_of_the_chart_is_in_the_tables(chart: Chart):
    told = set(re.findall(r"^\| `([\w.]+)` \|", values_table.tables(), re.MULTILINE))

    def paths(values: dict[str, Any], schema: dict[str, Any], below: str = "") -> Iterator[str]:
        for name, value in values.items():
            yield below + name
            inner = schema["properties"][name]
            if "properties" in inner:
                yield from paths(value, inner, f"{below}{name}.")

    assert set(paths(chart.values, chart.schema)) == {path for path in told if ".NAME" not in path}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_links_lead_somewhere(guide: Path):
    links = re.findall(r"\]\(([^)]+)\)", guide.read_text())
    assert links
    for link in links:
        if "://" not in link:
            path, _, heading = link.partition("#")
            there = guide.parent / path if path else guide
            assert there.exists(), link
            assert not heading or heading in headings(there), link


def headings(guide: Path) -> set[str]:
    """Its headings, as a link names them."""
    lines = [line for line in guide.read_text().splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("guide", [INSTALL, BOTS, GATEWAY, MIGRATE], ids=lambda guide: guide.name)
def test_the_tests_it_names_are_there(guide: Path):
    there = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = set(re.findall(r"`(test_\w+)`", guide.read_text()))
    assert len(named) > 10
    assert named - there == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_commands_name_targets_and_files_that_are_there(guide: Path):
    targets = set(re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets = {word for target in targets for word in target.split()}
    text = "\n".join([*commands(guide), *re.findall(r"`([^`\n]+)`", guide.read_text())])
    assert set(re.findall(r"^make (\w+)", text, re.MULTILINE)) <= targets
    for file in re.findall(r"(?<![\w/])(?:examples|helm|crds|local|tests|docs|bot_image)/[\w./-]*", text):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("guide", [README, INSTALL], ids=lambda guide: guide.name)
def test_values_that_it_names_are_the_charts(guide: Path, chart: Chart):
    text = guide.read_text().split(values_table.BEGIN)[0]
    tops = "|".join(chart.values)
    named = set(re.findall(rf"`((?:{tops})\.[\w.]+)(?:=\w+)?`", text))
    named |= {path for command in commands(guide) for path in flags(command)}
    assert named
    for path in named:
        at: Any = chart.values
        for word in path.split("."):
            assert word in at, path
            at = at[word]


@pytest.mark.parametrize("guide", [README, INSTALL, CHART / "README.md"], ids=lambda guide: guide.parent.name)
def test_the_guides_own_command_fences_the_bots_in(guide: Path, chart: Chart):
    typed = commands(guide)
    made = {command.rpartition(" ")[2] for command in typed if command.startswith("kubectl create namespace ")}
    assert made == {"pipecat-system", "calls"}
    installs = [command for command in typed if command.startswith("helm install ")]
    assert installs
    for install in installs:
        (system,) = re.findall(r"--namespace (\S+)", install)
        files = chart.render(values_of(install), name=install.split()[2], namespace=system)
        texts = [text for path, text in files.items() if path.endswith("yaml")]
        items = [item for text in texts for item in yaml.safe_load_all(text) if item]
        assert {item["metadata"]["namespace"] for item in items if item["kind"] == "NetworkPolicy"} == made
        assert {item["kind"] for item in items} & {"ClusterRole", "ClusterRoleBinding"} == set()


def test_the_images_have_the_tag_that_the_chart_looks_for():
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    pushed = re.findall(r"YOUR-REGISTRY/pipecat-\w+:([\w.]+)", INSTALL.read_text())
    assert set(pushed) == {version}


def test_deployment_and_services_are_named_as_told(chart: Chart):
    made = rendered(chart)
    assert ("Deployment", "pipecat-operator") in made
    assert ("Service", "pipecat-gateway") in made
    (port,) = made["Service", "pipecat-operator"]["spec"]["ports"]
    told = re.sub(r"\s+", " ", INSTALL.read_text())
    assert "rollout restart deployment pipecat-operator" in told
    assert f"Service `pipecat-operator` on port {port['port']}, and that of `pipecat-gateway`" in told


def test_only_the_api_is_told_to_the_world(chart: Chart):
    made = rendered(chart, ingress={"enabled": True}, httpRoute={"enabled": True, "parentRefs": [{"name": "a"}]})
    ingress, route = made["Ingress", "pipecat-gateway"]["spec"], made["HTTPRoute", "pipecat-gateway"]["spec"]
    paths = [path["path"] for rule in ingress["rules"] for path in rule["http"]["paths"]]
    assert paths == [match["path"]["value"] for rule in route["rules"] for match in rule["matches"]]
    assert set(paths) == {"/start", "/start_bot", "/sessions", "/v1", "/docs", "/openapi.json"}


def test_the_gateway_may_do_what_is_told(chart: Chart):
    rules = rendered(chart)["Role", "pipecat-gateway"]["rules"]
    given = {rule["resources"][0]: ", ".join(rule["verbs"]) for rule in rules}
    told = f"BotSessions ({given['botsessions']}), Bots ({given['bots']}), and Secrets ({given['secrets']})"
    assert told in re.sub(r"\s+", " ", INSTALL.read_text())


# docs/migrate-from-pipecat-cloud.md


def claims() -> list[str]:
    """Every point and every row of a table, without the tables' heads."""
    text = re.sub(r"\n {2}(?=\S)", " ", MIGRATE.read_text())
    lines = [line for line in text.splitlines() if re.match(r"- |\| [^|]*[^| ]", line)]
    return [line for line in lines if not line.endswith("| Pipecat Cloud | here |")]


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim[2:40])
def test_every_claim_of_the_migration_names_a_test_that_shows_it(claim: str):
    assert re.search(r"`test_\w+`", claim)


# docs/bots.md


def test_the_images_dockerfile_is_the_examples():
    first = blocks(BOTS, "dockerfile")[0]
    example = (ROOT / "examples" / "bot" / "Dockerfile").read_text()
    assert first == "".join(line for line in example.splitlines(keepends=True) if not line.startswith("#"))


@pytest.mark.parametrize("shown", blocks(BOTS, "dockerfile"))
def test_hadolint_finds_nothing_in_what_is_shown(shown: str):
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([hadolint, "--no-color", "-"], input=shown, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_the_bot_that_is_shown_is_one_that_the_crd_knows():
    (shown,) = (yaml.safe_load(text) for text in blocks(BOTS, "yaml"))
    example = yaml.safe_load((ROOT / "examples" / "bot.yaml").read_text())
    template = shown["spec"].pop("podTemplate")
    assert shown == example
    (container,) = template["spec"]["containers"]
    assert (ROOT / "bot_image" / container["args"][0]).exists()


def test_what_a_person_joins_with_is_where_it_says():
    room, secret, token = (path.split(".") for path in re.findall(r"jsonpath='\{\.([\w.]+)\}'", BOTS.read_text()))
    crd = yaml.safe_load((ROOT / "crds" / "botsession.yaml").read_text())
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert room == ["status", "room", "url"]
    assert "url" in status["room"]["properties"]
    assert secret == ["status", "credentialsSecretName"]
    assert "credentialsSecretName" in status
    made = secret_manifest(session(), "https://example.test/room", "bot", "user")["stringData"]
    assert token[0] == "data"
    assert made[token[1]] == "user"


def test_the_bots_keys_are_made_before_it_is():
    (source,) = yaml.safe_load((ROOT / "examples" / "bot.yaml").read_text())["spec"]["envFrom"]
    for guide in (INSTALL, BOTS):
        typed = commands(guide)
        made = [at for at, line in enumerate(typed) if f"create secret generic {source['secretRef']['name']} " in line]
        applied = [at for at, line in enumerate(typed) if "examples/bot.yaml" in line and " calls " in line]
        assert made
        assert applied
        assert made[0] < applied[0]
        assert "YOUR-" in typed[applied[0]]


def test_the_variables_are_those_that_the_host_reads():
    rows = [row for row in table(BOTS, "Keys and settings") if row[0].startswith("`")]
    told = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    fields = {str(field.alias): field.default for field in Environment.model_fields.values()}
    own = re.findall(r"`(PIPECAT_\w+)`", BOTS.read_text().split("Yours to set: ")[1].split("\n## ")[0])
    assert told.keys() | set(own) == fields.keys()
    for name, without in told.items():
        if without.isdigit():
            assert int(without) == fields[name]
    job = job_manifest(session(), bot(), Limits(), NOW, NOW)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    set_by_the_operator = {variable["name"] for variable in container["env"]}
    assert set_by_the_operator - {"POD_IP", "PIPECAT_TERMINATION_MESSAGE_PATH"} == told.keys()


def test_the_ends_are_those_of_the_host():
    told = {row[0].strip("`"): int(row[2]) for row in table(BOTS, "How it ends")}
    assert told == {reason.value: Ending(reason, "").exit_code for reason in HostsReason}
    assert set(told) <= set(EndReason)


def test_the_figures_of_a_node_follow_from_the_crd():
    crd = yaml.safe_load((ROOT / "crds" / "bot.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    requests = spec["properties"]["resources"]["default"]["requests"]
    assert requests == {"cpu": "250m", "memory": "300Mi"}
    rows = [row for row in table(BOTS, "How many on a node") if row[0].isdigit()]
    assert len(rows) == 5
    for cpus, bots, memory in rows:
        assert int(bots) == int(cpus) * 1000 // 250
        assert memory == f"{int(bots) * 300 / 1024:.1f} GiB"
