"""What the kernel says of processes: processor time and private memory."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children, ended ones too."""
    return _with_children(_cpu_seconds, pid)


def private_bytes(pid: int) -> float:
    """Memory that a process and its children share with nobody (their unique set size)."""
    return _with_children(_private_bytes, pid)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _private_bytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(float(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _with_children(measure: Callable[[int], float], pid: int) -> float:
    total = measure(pid)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ends meanwhile
            total += _with_children(measure, int(child))
    return total
