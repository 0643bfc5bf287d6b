"""Runs the state machine against a copy of the product, in which a bug may be planted."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults.source import Replacement, copied
from tests.faults.world import REPOSITORY

EXAMPLES = 25
"""So many are enough for a planted bug, from its seed on."""

_FOUND = re.compile(r"machine: seed \d+, (example .*)")


def run_machine(
    seed: int, folder: Path, planted: Sequence[Replacement] = (), examples: int = EXAMPLES
) -> str:
    """What the machine found first, and where; empty if all held.

    Args:
        seed: of its examples.
        folder: for the copy and the log; new.
        planted: replacements that plant a bug.
        examples: how many.

    Raises:
        RuntimeError: it did not run.
    """
    source = copied(REPOSITORY, folder / "source", planted)
    shutil.copytree(REPOSITORY / "tests", source / "tests")
    shutil.copy(REPOSITORY / "pyproject.toml", source)
    environment = {
        **os.environ,
        "PYTHONPATH": str(source),
        "MACHINE_SEED": str(seed),
        "MACHINE_EXAMPLES": str(examples),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/integration/machine"],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (folder / "log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode == 0:
        return ""
    found = _FOUND.search(done.stdout)
    if found is None:
        raise RuntimeError(f"the machine did not run, see {folder / 'log'}")
    return found.group(1).strip()
