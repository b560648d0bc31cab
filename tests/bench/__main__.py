"""``make bench``: see docs/scale.md."""

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import (
    scenario_burst,
    scenario_gateway,
    scenario_life,
    scenario_limits,
    scenario_memory,
    scenario_population,
    scenario_room,
    scenario_steady,
)
from bench.report import Row, save, table
from bench.world import world
from pipecat_local.realnode.packages import NotHere

SCENARIOS = {
    "burst": scenario_burst.run,
    "life": scenario_life.run,
    "steady": scenario_steady.run,
    "population": scenario_population.run,
    "memory": scenario_memory.run,
    "limits": scenario_limits.run,
    "room": scenario_room.run,
    "gateway": scenario_gateway.run,
}
RESULT = Path(__file__).parents[2] / ".cache" / "bench" / "result.json"


async def run(wanted: list[str], size: float) -> list[Row]:
    """One after the other, on one control plane."""
    rows: list[Row] = []
    async with world() as there:
        for name in wanted:
            sys.stderr.write(f"{datetime.now():%H:%M:%S} {name}\n")
            try:
                rows += await SCENARIOS[name](there, size)
            except NotHere as reason:
                sys.stderr.write(f"{reason}\n")
            about = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "size": size, "cpus": os.cpu_count()}
            # What was measured is kept, whatever happens to the rest.
            save(RESULT, rows, about)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"all when none is named: {', '.join(SCENARIOS)}")
    parser.add_argument("--size", type=float, default=1.0, help="of every count of sessions; 0.05 takes a minute")
    given = parser.parse_args()
    rows = asyncio.run(run(given.scenarios or list(SCENARIOS), given.size))
    sys.stdout.write(table(rows) + "\n")


main()
