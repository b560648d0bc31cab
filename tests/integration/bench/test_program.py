"""`make bench` itself, at a size that takes a minute: what it prints and writes, not its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(600)
def test_a_table_and_a_file():
    command = [sys.executable, "-m", "bench", "burst", "life", "--size", "0.02"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stderr
    written = json.loads((ROOT / ".cache" / "bench" / "result.json").read_text())
    assert {row["scenario"] for row in written["rows"]} == {"burst", "life"}
    lines = ran.stdout.strip().splitlines()
    assert len(lines) == len(written["rows"]) + 2, "a head and a rule"
    by = {row["what"]: row for row in written["rows"]}
    assert all(row["figure"] >= 0 for row in by.values())
