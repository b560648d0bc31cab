"""What a process uses, as Linux counts it."""

import os
from pathlib import Path

TICKS_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Seconds of CPU it has used, all threads, user and system."""
    # The name, in parentheses, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


def all_cpu_s() -> float:
    """Seconds of CPU that this process and its children have used: all that a measurement runs."""
    mine = os.times()
    ended = mine.user + mine.system + mine.children_user + mine.children_system
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return ended + sum(cpu_s(int(pid)) for pid in children)


def rss_mb(pid: int) -> float:
    """Resident memory now."""
    return _memory(pid, "VmRSS")


def peak_rss_mb(pid: int) -> float:
    """The most resident memory it ever had."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that so many percent are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
