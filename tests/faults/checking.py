"""Everything that is looked at after a schedule, each check by its name."""

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from adapters.objects.store import SizedObjects, StoredObjects
from adapters.postgres.connection import Database, open_database
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from adapters.postgres.views import PostgresViews
from domain.model.recorded import Recorded
from domain.use_cases.lanes import SETTLE_SECONDS
from tests.faults import application_checks, broker_checks, ledger_checks, written
from tests.faults.application_checks import Picture
from tests.faults.progress import connected
from tests.faults.verdict import Verdict
from tests.faults.world import World

BAD = re.compile(r"Traceback|defect:|_crashed|never retrieved|never awaited")
EXPECTED = re.compile(
    # The driver's pool shows why it could not reconnect at once, and what became of a connection
    # whose user was cancelled meanwhile, also while it was connecting: the future of the driver's
    # TLSUpgradeProto is then nobody's.
    r"Failed to restore the pool connection floor|coro=<PoolConnectionHolder\.release"
    r"|ConnectionError\('unexpected connection_lost\(\) call'\)"
    # The same of a statement that was given up while its server was paused, and then was killed.
    r"|ConnectionDoesNotExistError\('connection was closed in the middle of operation'\)"
    # The client of Kafka lets a commit go on whose caller has timed out, and looks at it no more.
    r"|coro=<GroupCoordinator\._do_commit_offsets"
    # An assertion of it fails when a broker goes in a rebalance; the applier joins anew.
    r"|Unexpected error in coordinator routine"
)
STAMP = re.compile(r"\d{4}-\d\d-\d\d ")

ALL = 1_000_000


async def check(world: World, verdict: Verdict, before: Picture, state: str) -> None:
    """Check everything.

    Args:
        world: still runs its servers; its programs were stopped.
        verdict: gets what is found. Where the work was not completed, what nobody had the time
            to catch up with is not looked at.
        before: what the application saw before.
        state: of the last migration, or empty.
    """
    completed = not verdict.findings_of("completes")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(world.database_url))
        ledger = await stack.enter_async_context(PostgresLedger(database))
        connection = await stack.enter_async_context(connected(world.database_url))
        events = await ledger.read(0, ALL)
        verdict.events = len(events)
        await _check_ledger(verdict, database, connection, events)
        verdict.find("heads", await ledger_checks.check_heads(ledger, connection, events))
        objects = SizedObjects(
            PostgresObjects(database), StoredObjects((world.folder / "objects").as_uri())
        )
        verdict.find("objects", await ledger_checks.check_objects(objects, connection))
        found = await written.recorded_writes(connection)
        seed, notes = verdict.schedule.seed, written.notes(world.journal)
        acknowledged = await written.check_acknowledged(connection, seed, notes, found)
        verdict.find("acknowledged", acknowledged)
        verdict.find("acknowledged", await written.check_contests(connection, notes))
        if completed:
            await _check_derived(world, verdict, database, connection, events)
            points = written.expected_points(seed, found.values())
            qdrant = world.application.qdrant
            verdict.find("written points", await application_checks.check_points(qdrant, points))
    if completed:
        await _check_application(world, verdict, before, state)
    _check_programs(world, verdict)


async def _check_ledger(
    verdict: Verdict,
    database: Database,
    connection: asyncpg.Connection,
    events: Sequence[Recorded],
) -> None:
    verdict.find("chain", await ledger_checks.check_chain(database, connection))
    verdict.find("steps", ledger_checks.check_steps(events))
    verdict.find("cut-over", ledger_checks.check_cut_over(events))
    verdict.find("leases", await ledger_checks.check_leases(connection))


async def _check_derived(
    world: World,
    verdict: Verdict,
    database: Database,
    connection: asyncpg.Connection,
    events: Sequence[Recorded],
) -> None:
    verdict.find("views", await ledger_checks.check_views(PostgresViews(database), events))
    left = await ledger_checks.check_nothing_left(connection, calm=verdict.calm > SETTLE_SECONDS)
    verdict.find("nothing left", left)
    topic = await broker_checks.contents(world.bootstrap, broker_checks.EVENTS)
    verdict.find("topic", broker_checks.check_topic(topic, len(events)))
    verdict.find("offsets", await broker_checks.check_offsets(world.bootstrap, connection))


async def _check_application(world: World, verdict: Verdict, before: Picture, state: str) -> None:
    application, drop = world.application, verdict.schedule.drop
    if state == "completed":
        found = await application_checks.check_migrated(application, before, drop=drop)
    else:
        found = await application_checks.check_unmigrated(application, before)
    verdict.find("migrated points", found)


def _check_programs(world: World, verdict: Verdict) -> None:
    """Nobody died by itself, nobody had to be killed, and nobody met a defect."""
    for name, program in world.programs.items():
        verdict.find("ends", [f"{name} ended by itself: {status}" for status in program.deaths])
        if not program.ended_well:
            verdict.find("ends", [f"{name} did not end when it was asked to: {program.stopped}"])
        verdict.find("logs", [f"{name}: {one}" for one in _bad_records(program.log)])


def _bad_records(log: Path) -> list[str]:
    """What a program logged that nobody expects; a record goes on to the next time stamp."""
    records: list[str] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        if STAMP.match(line) or not records:
            records.append(line)
        else:
            records[-1] += f"\n{line}"
    return [record for record in records if BAD.search(record) and not EXPECTED.search(record)]
