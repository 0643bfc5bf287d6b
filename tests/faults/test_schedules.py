"""A handful of schedules; `make faults` runs two hundred, and every planted bug."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.run import run
from tests.faults.schedule import SUITE, schedule_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.xdist_group("faults")]


@pytest.mark.broker
@pytest.mark.parametrize("seed", [4, 41, 45])
def test_a_schedule_of_faults_loses_nothing(seed: int, tmp_path: Path) -> None:
    verdict = asyncio.run(run(schedule_of(seed, SUITE), tmp_path))
    assert verdict.findings == [], (
        f"data and logs: {tmp_path}; replay: python -m tests.faults --seed {seed}"
    )


def test_a_seed_always_gives_the_same_schedule() -> None:
    assert schedule_of(7, SUITE) == schedule_of(7, SUITE)
    assert len({schedule_of(seed, SUITE).faults for seed in range(200)}) == 200
