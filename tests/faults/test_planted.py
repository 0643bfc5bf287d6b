"""Planted bugs are found; all of them by `make faults`, the quick ones here."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.faults.machine_planted import MACHINE_PLANTS
from tests.faults.machine_run import run_machine
from tests.faults.planted import PLANTS, Plant
from tests.faults.run import run
from tests.faults.schedule import SUITE, aimed
from tests.faults.world import REPOSITORY

LISTED = re.compile(r"^\| `([a-z-]+)` \|", re.MULTILINE)
BY_NAME = {plant.name: plant for plant in (*PLANTS, *MACHINE_PLANTS)}


@pytest.mark.parametrize("plant", BY_NAME.values(), ids=lambda plant: plant.name)
def test_replacements_fit_the_source(plant: Plant) -> None:
    for replacement in plant.replacements:
        assert replacement.applied(REPOSITORY) != (REPOSITORY / replacement.path).read_text()


def test_every_bug_of_the_list_is_planted() -> None:
    listed = LISTED.findall((Path(__file__).parent / "planted.md").read_text(encoding="utf-8"))
    assert set(listed) == BY_NAME.keys()


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("faults")
@pytest.mark.parametrize("name", ["tombstone-lost", "head-not-updated", "offset-before-receipt"])
def test_a_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    plant = BY_NAME[name]
    verdict = asyncio.run(run(aimed(plant.seed, SUITE, plant.aims), tmp_path, plant.replacements))
    assert verdict.findings_of(plant.found_by) != []


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("faults")
@pytest.mark.parametrize("name", ["oldest-of-a-batch", "restored-without-the-deleted"])
def test_a_planted_bug_is_found_by_the_machine(name: str, tmp_path: Path) -> None:
    plant = BY_NAME[name]
    assert f": {plant.found_by}: " in run_machine(plant.seed, tmp_path, plant.replacements)
