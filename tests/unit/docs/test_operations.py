"""docs/operations.md keeps its word: every row is named after a test that proves it."""

import ast
import re
from pathlib import Path

import pytest

from pipecat_operator.conditions import EndReason
from pipecat_operator.metrics import Metrics

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "operations.md"
FOLDERS = ("weather", "faults", "operator")


def sources(folder: str) -> dict[str, str]:
    """The tests of that folder of integration tests: name, and source with its decorators."""
    found = {}
    for file in (ROOT / "tests" / "integration" / folder).glob("test_*.py"):
        text = file.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[node.name] = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return found


def rows() -> list[list[str]]:
    """The cells of every row of the four-column tables."""
    lines = [line.strip("|").split("|") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in lines if len(row) == 4 and row[0].strip() != "what happens"]


TESTS = {name: source for folder in FOLDERS for name, source in sources(folder).items()}
ROWS = rows()


def named(row: list[str]) -> str:
    """The test that proves it."""
    return row[0].split("`")[1]


@pytest.mark.parametrize("folder", ["weather", "faults"])
def test_every_test_of_weather_and_faults_has_a_row(folder: str):
    assert sources(folder).keys() - {named(row) for row in ROWS} == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_a_test_and_the_reasons_that_it_proves(row: list[str]):
    assert named(row) in TESTS
    for reason in set(re.findall(r"`(\w+)`", row[1])) & set(EndReason):
        assert reason in TESTS[named(row)]
    assert all(row), "no cell is empty"


def test_every_end_reason_has_a_row():
    told = {word for row in ROWS for word in re.findall(r"`(\w+)`", row[1])}
    assert set(EndReason) - told == set()


def test_the_metrics_are_there():
    metrics = Metrics()
    metrics.watch_gauges(dict, lambda: 0, lambda: 0, lambda: 0)
    shown = metrics.text().decode()
    wanted = {name.removesuffix("_count") for name in re.findall(r"`(pipecat_\w+)", DOCUMENT.read_text())}
    assert len(wanted) > 5
    assert [name for name in wanted if not re.search(rf"^(# HELP )?{name}\b", shown, re.MULTILINE)] == []
