"""One table for people, one file for programs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``floor``: what the least that does the same was measured at, in the same run."""

    scenario: str
    what: str
    figure: float
    unit: str
    floor: float | None = None
    target: str = ""
    met: bool | None = None
    """None: it has no target."""

    @property
    def ratio(self) -> float | None:
        """Of the figure to its floor."""
        return self.figure / self.floor if self.floor else None


HEADS = ("scenario", "what", "figure", "floor", "ratio", "target", "met")


def table(rows: Sequence[Row]) -> str:
    """Markdown, its columns aligned."""
    lines = [HEADS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    shown = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in [shown[0], rule, *shown[1:]])


def told(rows: Sequence[Row]) -> Sequence[Row]:
    """Those rows, shown as soon as they are measured: what comes after them may fail."""
    sys.stderr.write("\n".join(" | ".join(_cells(row)) for row in rows) + "\n")
    return rows


def save(file: Path, rows: Sequence[Row], about: dict[str, object]) -> None:
    """As JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {**about, "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
    file.write_text(json.dumps(content, indent=1) + "\n")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.scenario,
        row.what,
        f"{_number(row.figure)} {row.unit}".strip(),
        "" if row.floor is None else _number(row.floor),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.target,
        {True: "yes", False: "NO", None: ""}[row.met],
    )


def _number(value: float) -> str:
    return (
        f"{value:.0f}"
        if abs(value) >= 100 or value == int(value)
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )
