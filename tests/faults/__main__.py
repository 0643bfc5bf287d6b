"""Replay schedules: ``python -m tests.faults --seed 7``, ``--seeds 1..200``, ``--plant NAME``.

``--machine`` runs the state machine with these seeds instead.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from adapters.embedded.failures import ProcessFailed
from tests.faults.machine_planted import MACHINE_PLANTS
from tests.faults.machine_run import run_machine
from tests.faults.planted import PLANTS, Plant
from tests.faults.run import Verdict, run
from tests.faults.schedule import PROFILES, Profile, Schedule, aimed, schedule_of
from tests.faults.source import Replacement


def main() -> int:
    """Run schedules; the exit status is 1 if a check found something, or a bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="one schedule")
    parser.add_argument("--seeds", help="several: FIRST..LAST")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="suite")
    parser.add_argument("--plant", help="plant a bug, or `all` one after the other")
    parser.add_argument(
        "--sound", action="store_true", help="with --plant: its schedule, without the bug"
    )
    parser.add_argument("--machine", action="store_true", help="the state machine")
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    given = parser.parse_args()
    profile = PROFILES[given.profile]
    if given.plant:
        plants = [plant for plant in PLANTS if given.plant in {"all", plant.name}]
        found = [_plant(plant, profile, given) for plant in plants]
        slips = [plant for plant in MACHINE_PLANTS if given.plant in {"all", plant.name}]
        found += [_slip(plant, given) for plant in slips]
        return 0 if all(found) else 1
    first, _, last = (given.seeds or str(given.seed or 0)).partition("..")
    seeds = range(int(first), int(last or first) + 1)
    replay = (
        partial(_operate, given=given)
        if given.machine
        else partial(_replay, profile=profile, given=given)
    )
    failed = [seed for seed in seeds if replay(seed)]
    if len(seeds) > 1:
        _say(f"{len(seeds) - len(failed)} of {len(seeds)} seeds held; failed: {failed}")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _replay(seed: int, profile: Profile, given: argparse.Namespace) -> bool:
    """Run the schedule of a seed; whether a check found something, or it could not begin."""
    try:
        verdict = _run(schedule_of(seed, profile), (), keep=given.keep)
    except ProcessFailed as error:  # somebody took a port first; the other schedules can run
        _say(f"  not run: {error}")
        return True
    if verdict.findings:
        _say(f"  replay: python -m tests.faults --seed {seed} --profile {given.profile}")
    return bool(verdict.findings)


def _plant(plant: Plant, profile: Profile, given: argparse.Namespace) -> bool:
    """Run a schedule with a planted bug; whether a check found it."""
    seed = plant.seed if given.seed is None else given.seed
    _say(f"planted: {plant.name}")
    schedule = aimed(seed, profile, plant.aims)
    planted = () if given.sound else plant.replacements
    verdict = _run(schedule, planted, keep=given.keep)
    checks = sorted({check for check, _ in verdict.findings})
    _say(f"  {plant.name} | seed {seed} | {', '.join(checks) or 'NOT FOUND'}")
    return bool(checks) != given.sound


def _operate(seed: int, given: argparse.Namespace, plant: Plant | None = None) -> str:
    """Run the state machine with a seed; what it found."""
    folder = Path(tempfile.mkdtemp(prefix=f"machine-{seed}-"))
    found = run_machine(seed, folder, () if plant is None or given.sound else plant.replacements)
    _say(f"  {plant.name if plant else 'machine'} | seed {seed} | {found or 'held'}")
    if given.keep or (found and plant is None):
        _say(f"  log: {folder / 'log'}")
    else:
        shutil.rmtree(folder)
    return found


def _slip(plant: Plant, given: argparse.Namespace) -> bool:
    """Run the state machine with a planted bug; whether it found it."""
    seed = plant.seed if given.seed is None else given.seed
    return bool(_operate(seed, given, plant)) != given.sound


def _run(schedule: Schedule, replacements: Sequence[Replacement], *, keep: bool) -> Verdict:
    """Run a schedule and tell what happened."""
    _say(f"seed {schedule.seed}")
    for line in schedule.lines():
        _say(f"  {line}")
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{schedule.seed}-"))
    verdict = asyncio.run(run(schedule, folder, replacements))
    for seconds, text in verdict.told.lines:
        _say(f"  {seconds:7.2f} s  {text}")
    for check, found in verdict.findings:
        _say(f"  FOUND by {check}: {found}")
    held = "FAILED" if verdict.findings else "held"
    _say(f"  {held}: {verdict.events} events, recovery {verdict.recovery:.1f} s")
    if keep or (verdict.findings and not replacements):
        _say(f"  data and logs: {folder}")
    else:
        shutil.rmtree(folder)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
