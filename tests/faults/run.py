"""Runs one schedule: a world that migrates while faults happen, and a look at what is left."""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from domain.use_cases.lanes import SETTLE_SECONDS
from tests.faults import broker_checks, written
from tests.faults.application_checks import Picture, check_points
from tests.faults.checking import check
from tests.faults.injection import inject
from tests.faults.progress import Progress, connected
from tests.faults.schedule import APPLIERS, WORKERS, WRITER, Schedule
from tests.faults.source import Replacement, copied
from tests.faults.steering import Steering
from tests.faults.verdict import Verdict
from tests.faults.waiting import until_alive, until_caught_up, until_quiet
from tests.faults.world import REPOSITORY, World, running_world

SLOWNESS = float(os.environ.get("FAULTS_SLOWNESS", "1"))
"""How much slower than usual this machine may be; stretches the limits."""

RECOVERY_SECONDS = 30.0 * SLOWNESS
LOOK_SECONDS = 10.0
SPARE_SECONDS = 5.0 * SLOWNESS


async def run(schedule: Schedule, folder: Path, planted: Sequence[Replacement] = ()) -> Verdict:
    """Run a schedule.

    Args:
        schedule: what goes wrong.
        folder: for data and logs; new.
        planted: replacements that plant a bug in what runs.
    """
    verdict = Verdict(schedule, folder)
    source = copied(REPOSITORY, folder / "source", planted)
    async with running_world(folder, source, schedule.seed, schedule.profile) as world:
        work = _Work(world, verdict)
        try:
            await work.done()
        except* (TimeoutError, httpx.HTTPStatusError) as failed:
            verdict.find("completes", [str(error) for error in _leaves(failed)])
            await work.stopped()
        verdict.told.tell("checks")
        await check(world, verdict, work.before, work.state)
    verdict.told.tell("done")
    return verdict


def _leaves(failed: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in failed.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


class _Work:
    """The migration, the faults, and the way to a quiet end.

    Attributes:
        before: what the application saw before.
        state: of the last migration.
    """

    def __init__(self, world: World, verdict: Verdict) -> None:
        self._world = world
        self._verdict = verdict
        self._schedule = verdict.schedule
        self._told = verdict.told
        self._patience = verdict.schedule.profile.patience * SLOWNESS
        self.before = Picture()
        self.state = ""

    async def done(self) -> None:
        """Migrate, as the schedule says, while its faults happen; stop when all is quiet."""
        await until_alive(self._world.database_url, len(WORKERS), self._patience)
        self.before = await Picture.taken(self._world.application)
        progress = Progress(self._world.database_url)
        self._told.tell("migration asked for")
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(progress.watch())
            faults = group.create_task(self._fail(progress))
            try:
                await self._migrate(progress)
            finally:
                progress.end()
            await faults
            watching.cancel()
        await self._world.programs[WRITER].stop()
        await until_quiet(self._world.database_url, self._patience)
        self._told.tell("quiet")
        await self._settle_points()
        await self.stopped()

    async def stopped(self) -> None:
        """Stop all programs, as an operator would."""
        self._verdict.calm = time.monotonic() - self._told.healed - self._verdict.recovery
        await self._world.stop()
        self._told.tell("stopped")

    async def _fail(self, progress: Progress) -> None:
        """Let the faults happen, and measure how long it takes to catch up after the last."""
        await inject(self._world, self._schedule, progress, self._told, self._look)
        begun = time.monotonic()
        await until_caught_up(self._world.database_url, self._patience)
        self._verdict.recovery = time.monotonic() - begun
        self._told.tell(f"recovered after {self._verdict.recovery:.1f} s")
        if self._verdict.recovery > RECOVERY_SECONDS:
            self._verdict.find("recovers", [f"took {self._verdict.recovery:.1f} s"])

    async def _settle_points(self) -> None:
        """Give appliers the time that they take until they look at doubtful writes again."""
        until = time.monotonic() + SETTLE_SECONDS + SPARE_SECONDS
        async with connected(self._world.database_url) as connection:
            found = await written.recorded_writes(connection)
        expected = written.expected_points(self._schedule.seed, found.values())
        while await check_points(self._world.application.qdrant, expected):
            if time.monotonic() > until:
                return
            self._told.tell("points differ")
            await asyncio.sleep(1)

    async def _migrate(self, progress: Progress) -> None:
        steering = Steering(self._world.api, self._patience)
        try:
            migration = await self._ask(steering, "first")
            if self._schedule.back == "running":
                await progress.until("flow.range-recorded", 3)
                await steering.back(migration, "cancel", "cancel")
            await self._settled(steering, migration)
            if self._schedule.back == "completed":
                await steering.back(migration, "rollback", "rollback")
                await self._settled(steering, migration)
            if self._schedule.again:
                await self._settled(steering, await self._ask(steering, "second"))
        finally:
            await steering.close()

    async def _ask(self, steering: Steering, key: str) -> str:
        return await steering.migrate(
            self._world.application,
            key,
            drop=self._schedule.drop,
            batch=self._schedule.profile.batch,
        )

    async def _settled(self, steering: Steering, migration: str) -> None:
        found = await steering.settled(migration)
        self.state = found["state"]
        self._told.tell(f"migration {self.state}")
        if self.state == "failed":
            raise TimeoutError(f"the migration failed: {found.get('error')}")

    async def _look(self, name: str) -> None:
        """Look at what a killed program left: nothing may be told to the broker too early."""
        if name not in {"relay", *APPLIERS}:
            return
        name_of_check = "published" if name == "relay" else "offsets"
        look = broker_checks.check_published if name == "relay" else broker_checks.check_offsets
        lost = self._told.broker_lost
        try:
            async with asyncio.timeout(LOOK_SECONDS), connected(self._world.database_url) as found:
                findings = await look(self._world.bootstrap, found)
        except Exception as error:  # noqa: BLE001  # whatever clients say of servers that are away
            self._told.tell(f"no look at what {name} left: {error!r}")
            return
        if lost == self._told.broker_lost:
            self._verdict.find(name_of_check, findings)
