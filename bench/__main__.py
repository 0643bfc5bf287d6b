"""Run benches: `python -m bench [NAME ...] [--quick] [--write]`."""

import argparse
import asyncio
import importlib
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from adapters.embedded import stack
from adapters.python_gc import collect_less
from bench.report import Report, table

BENCHES = (
    "append",
    "migration",
    "latency",
    "verify",
    "live",
    "rollback",
    "versions",
    "packs",
    "rebuild",
    "memory",
    "appliers",
    "poison",
)
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "benchmarks.md"
PACKAGES = ("aiokafka", "asyncpg", "eventsourcing", "grpcio", "pyarrow", "qdrant-client")
WIDTH = 110
INTRODUCTION = """\
# Benchmarks

Written by `make bench`, which measures all of this on one machine with the embedded servers.
Every comparison is measured in one run, both sides in turns, and the median of the rounds counts.
A ratio says how many times as good ours is as what it stands against; absolute numbers are those
of this machine, on which the servers, the workers and the other side of a comparison all run.
"""


def main() -> int:
    """Run the benches that are named, or all, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} anew")
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHES):
        parser.error(f"no bench is called {min(unknown)!r}; there are {', '.join(BENCHES)}")
    if given.write and (given.names or given.quick):
        parser.error("the page has all benches at their full sizes: --write goes alone")
    collect_less()  # as the program does
    console = Console()
    console.width = max(console.width, WIDTH)
    reports = []
    for name in given.names or BENCHES:
        report = asyncio.run(_bench(name).run(quick=given.quick))
        report.show(console)
        reports.append(report)
    if given.write:
        PAGE.write_text(page(reports, asyncio.run(machine())), encoding="utf-8")
        console.print(f"wrote {PAGE}", highlight=False)
    return 0


def _bench(name: str) -> Any:
    return importlib.import_module(f"bench.{name}")


async def machine() -> list[tuple[str, str]]:
    """What the numbers depend on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    servers = await stack.versions(stack.SERVERS)
    return [
        ("date", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("memory", f"{pages / 2**30:.0f} GiB"),
        ("Python", platform.python_version()),
        *((f"embedded {name}", found) for name, found in servers.items()),
        *((name, version(name)) for name in PACKAGES),
    ]


def page(reports: list[Report], facts: list[tuple[str, str]]) -> str:
    """The page of all reports."""
    sections = [INTRODUCTION.rstrip(), table(("machine", ""), facts)]
    return "\n\n".join([*sections, *(report.markdown() for report in reports)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
