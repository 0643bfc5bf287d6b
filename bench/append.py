"""How fast events are recorded, against the recorder of the library that the ledger builds on."""

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from rich.console import Console

from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.appender import Appender
from adapters.postgres.appending import EncodedCommand, encode_command
from adapters.postgres.connection import Database, open_database
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.schema import upgrade
from bench.report import Report, Row
from domain.model.aggregate import Actor, Context, pending_events
from domain.model.application import Application
from domain.model.recorded import Command

NAME = "append"
ROUNDS = 9
QUICK_ROUNDS = 1
QUICK_SHARE = 10
BATCH = 1000
POOL = 16
POOL_SECONDS = 60.0
CONTEXT = Context(Actor("mara", "os-user"), reason="benchmark", correlation_id="append")

_CALLERS = """\
Ours is `PostgresLedger.append`, a command with one event of about 110 bytes by each call: the event
is mapped and hashed into the chain, and its key and its stream's version are remembered. The other
is `PostgresApplicationRecorder.insert_events` of the `eventsourcing` library as it is configured by
default, which locks its table, so that its readers miss nothing either. It is handed events that
are mapped already, and records no context, key or hash. It is synchronous: its callers are threads
that share a pool of at most {pool} connections; pools of 1 to 64 made no difference. The bare
insert writes one row by each statement to a table with the same columns and indexes, on one
connection, and does nothing else. It is {limit:.1f} times as fast as the library: no append that
commits for each caller alone can be faster than that here. Both write to one
server, each to a database of its own, with `fsync` and `synchronous_commit` on; the callers of
both share the machine's cores with the server."""

_BATCHES = """\
Batches are {batch:,} events of one stream in one call by one caller, and begin on both sides with
events that are mapped already. The bare insert writes the same rows, by `unnest`, to a table with
the same columns and indexes; it has no positions to give, and no hashes, keys or versions. It takes
{bare:.1f} µs an event, ours {ours:.1f} µs, the library {library:.1f} µs. So no append that keeps a
row an event in these indexes can be more than {limit:.1f} times as fast as the library here."""

# A table like that of the events.
_BARE_TABLE = "CREATE TABLE bare (LIKE events INCLUDING ALL)"

# The rows of a batch, and nothing else that an append does.
_BARE_INSERT = """
INSERT INTO bare (position, stream, version, topic, state, context, recorded_at, hash)
SELECT $1::bigint + e.ordinal, e.stream, e.version, e.topic, e.state, $6, now(), $7
FROM unnest($2::uuid[], $3::int[], $4::text[], $5::bytea[])
    WITH ORDINALITY AS e (stream, version, topic, state, ordinal)
"""

# Where the next batch of the bare insert begins.
_BARE_END = "SELECT coalesce(max(position), 0) FROM bare"


@dataclass(frozen=True)
class Callers:
    """Callers that append one event after the other, at the same time.

    Attributes:
        number: of them.
        ours: calls by each of ours in a round; about a second together.
        library: calls by each of the library in a round.
        aim: ratio.
    """

    number: int
    ours: int
    library: int
    aim: float


ONE = Callers(1, ours=2000, library=800, aim=3)
CALLERS = (
    Callers(16, ours=500, library=60, aim=8),
    Callers(256, ours=80, library=4, aim=20),
)
BATCHES = Callers(1, ours=60, library=40, aim=8)


async def run(*, quick: bool = False) -> Report:
    """Measure both sides in turns, with few callers and many, and with batches."""
    rounds, share = (QUICK_ROUNDS, QUICK_SHARE) if quick else (ROUNDS, 1)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with Supervisor(Path(folder)) as supervisor:
            server = (await start_servers(supervisor, {"postgres"})).database_url or ""
            rows, limit = await _by_one_caller(server, rounds, share)
            rows += [await _by_callers(server, callers, rounds, share) for callers in CALLERS]
            batches, note = await _by_batches(server, rounds, share)
    return Report("Append", [*rows, *batches], [_CALLERS.format(pool=POOL, limit=limit), note])


async def _by_one_caller(server: str, rounds: int, share: int) -> tuple[list[Row], float]:
    """Rows, and how many times as fast as the library a bare insert is."""
    async with (
        _ledger(server) as database,
        _new_database(server) as library,
        PostgresLedger(database) as ledger,
        database.session("bench") as connection,
    ):
        await connection.execute(_BARE_TABLE)
        ours, others, bare = await _turns(
            rounds,
            lambda: _append(ledger, 1, ONE.ours // share),
            lambda: _insert(library, 1, ONE.library // share, 1),
            lambda: _insert_bare(connection, ONE.ours // share, 1),
        )
    rows = [
        _row("one caller", ours, others, ONE.aim),
        _row("one caller, against a bare insert", ours, bare, None),
    ]
    return rows, bare / others


async def _by_callers(server: str, callers: Callers, rounds: int, share: int) -> Row:
    async with (
        _ledger(server) as database,
        _new_database(server) as library,
        PostgresLedger(database) as ledger,
    ):
        ours, others = await _turns(
            rounds,
            lambda: _append(ledger, callers.number, callers.ours // share or 1),
            lambda: _insert(library, callers.number, callers.library // share or 1, 1),
        )
    return _row(f"{callers.number} callers", ours, others, callers.aim)


async def _by_batches(server: str, rounds: int, share: int) -> tuple[list[Row], str]:
    async with (
        _ledger(server) as database,
        _new_database(server) as library,
        database.session("bench") as connection,
    ):
        await connection.execute(_BARE_TABLE)
        ours, others, bare = await _turns(
            rounds,
            lambda: _append_batches(database, BATCHES.ours // share),
            lambda: _insert(library, 1, BATCHES.library // share, BATCH),
            lambda: _insert_bare(connection, BATCHES.ours // share, BATCH),
        )
    rows = [
        _row(f"batches of {BATCH:,}", ours, others, BATCHES.aim),
        _row(f"batches of {BATCH:,}, against a bare insert", ours, bare, None),
    ]
    times = {"bare": 1e6 / bare, "ours": 1e6 / ours, "library": 1e6 / others}
    return rows, _BATCHES.format(batch=BATCH, limit=bare / others, **times)


async def _turns(rounds: int, *sides: Callable[[], Awaitable[float]]) -> list[float]:
    """Measure each side once a round; returns their medians."""
    measured: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for rates, side in zip(measured, sides, strict=True):
            rates.append(await side())
    return [statistics.median(rates) for rates in measured]


async def _append(ledger: PostgresLedger, callers: int, calls: int) -> float:
    """Events a second of the ledger, one event a command."""
    work = [[_command(1) for _ in range(calls)] for _ in range(callers)]

    async def call(commands: list[Command]) -> None:
        for command in commands:
            await ledger.append(command)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for commands in work:
            group.create_task(call(commands))
    return callers * calls / (time.perf_counter() - began)


async def _append_batches(database: Database, calls: int) -> float:
    """Events a second of the appender, a batch a command."""
    work = [_encoded(BATCH) for _ in range(calls)]
    appender = Appender(database)
    await appender.append([_encoded(1)])
    began = time.perf_counter()
    for command in work:
        await appender.append([command])
    rate = calls * BATCH / (time.perf_counter() - began)
    appender.close()
    return rate


async def _insert(url: str, callers: int, calls: int, events: int) -> float:
    """Events a second of the library's recorder."""
    work = [[_stored(events) for _ in range(calls)] for _ in range(callers)]
    return await asyncio.to_thread(_insert_by_threads, url, work)


def _insert_by_threads(url: str, work: list[list[list[StoredEvent]]]) -> float:
    parts = urlsplit(url)
    datastore = PostgresDatastore(
        dbname=parts.path.removeprefix("/"),
        host=parts.hostname or "",
        port=parts.port or 0,
        user=parts.username or "",
        password=parts.password or "",
        pool_size=min(len(work), POOL),
        connect_timeout=POOL_SECONDS,
    )
    with datastore:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()
        datastore.pool.wait(POOL_SECONDS)
        begin = threading.Barrier(len(work) + 1)

        def call(batches: list[list[StoredEvent]]) -> None:
            begin.wait()
            for batch in batches:
                recorder.insert_events(batch)

        with ThreadPoolExecutor(len(work)) as threads:
            calls = [threads.submit(call, batches) for batches in work]
            begin.wait()
            began = time.perf_counter()
            for one in calls:
                one.result()
            seconds = time.perf_counter() - began
    return sum(len(batch) for batches in work for batch in batches) / seconds


async def _insert_bare(connection: Any, calls: int, events: int) -> float:
    """Events a second of an insert that does nothing else."""
    work = [_encoded(events) for _ in range(calls)]
    position = await connection.fetchval(_BARE_END)
    began = time.perf_counter()
    for command in work:
        await connection.execute(
            _BARE_INSERT,
            position,
            [event.originator_id for event in command.events],
            [event.originator_version for event in command.events],
            [event.topic for event in command.events],
            [event.state for event in command.events],
            command.context,
            command.request_hash,
        )
        position += events
    return calls * events / (time.perf_counter() - began)


def _command(events: int) -> Command:
    application = Application(generation=str(uuid4()), physical="docs__g1")
    for through in range(1, events):
        application.receipt(through, points=500)
    return Command(str(uuid4()), pending_events(application), CONTEXT)


def _encoded(events: int) -> EncodedCommand:
    return encode_command(_command(events))


def _stored(events: int) -> list[StoredEvent]:
    return list(_encoded(events).events)


def _row(name: str, ours: float, other: float, aim: float | None) -> Row:
    return Row(name, f"{ours:,.0f} events/s", f"{other:,.0f} events/s", ours / other, aim)


@asynccontextmanager
async def _ledger(server: str) -> AsyncIterator[Database]:
    async with _new_database(server) as url, open_database(url) as database:
        await upgrade(database)
        yield database


@asynccontextmanager
async def _new_database(server: str) -> AsyncIterator[str]:
    name = f"bench_{uuid4().hex}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(run(quick="--quick" in sys.argv[1:])).show(Console())
