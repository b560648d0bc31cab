"""The values of the chart, as tables for people: made from its schema's descriptions and its defaults.

``python -m pipecat_local.values_table`` writes them into docs/install.md, between two marks.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from pipecat_local.stack import ROOT

CHART: Final = ROOT / "helm" / "pipecat-operator"
DOCUMENT: Final = ROOT / "docs" / "install.md"
BEGIN: Final = "<!-- Made by python -m pipecat_local.values_table from values.schema.json: change it there. -->\n"
END: Final = "<!-- The end of what is made. -->\n"
LONGEST: Final = 90
"""Of a default that is shown; of a longer one it's said where it is."""

Schema = dict[str, Any]


def tables(chart: Path = CHART) -> str:
    """One table for each value at the top."""
    schema = json.loads((chart / "values.schema.json").read_text())
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    parts = []
    for name, value in schema["properties"].items():
        rows = "".join(f"{row}\n" for row in _rows(name, value, defaults[name]))
        parts.append(f"### {name}\n\n| value | default | |\n|---|---|---|\n{rows}")
    return "\n".join(parts)


def _rows(path: str, value: Schema, default: Any) -> Iterator[str]:
    """Of a value, and of all below it."""
    below = value.get("properties", {})
    yield f"| `{path}` | {_shown(None if below else default)} | {_said(value)} |"
    for name, inner in below.items():
        yield from _rows(f"{path}.{name}", inner, default[name] if default else None)
    of_any_name = value.get("additionalProperties")
    if isinstance(of_any_name, dict) and "properties" in of_any_name:
        yield from _rows(f"{path}.NAME", of_any_name, None)


def _shown(default: Any) -> str:
    if default is None:
        return ""
    text = json.dumps(default, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST else "see values.yaml"


def _said(value: Schema) -> str:
    said: str = value["description"]
    if "enum" in value:
        said += f" One of {', '.join(value['enum'])}."
    return said.replace("|", r"\|")


def written(document: str) -> str:
    """The document with the tables as they are now.

    Raises:
        ValueError: a mark is lost, so nobody knows what is made and what is written by hand.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{DOCUMENT.name} has lost a mark: {BEGIN if not begin else END}")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def main() -> None:
    """Write them."""
    DOCUMENT.write_text(written(DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
