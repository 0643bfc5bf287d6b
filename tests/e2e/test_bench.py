"""The benches run: a small one with servers, workers and a check of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.e2e


def test_benches_run_at_small_sizes_and_print_what_they_measured() -> None:
    done = subprocess.run(
        (sys.executable, "-m", "bench", "rebuild", "appliers", "--quick"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all read models" in done.stdout
    assert "2 appliers" in done.stdout
