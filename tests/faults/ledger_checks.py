"""What must hold in the ledger's database, whatever happened."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import asyncpg

from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import Database
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.views import PostgresViews
from domain.model.application import Application
from domain.model.errors import Corrupt
from domain.model.flow import FlowRange
from domain.model.generation import Generation
from domain.model.migration import Migration
from domain.model.recorded import Recorded
from domain.ports import Objects
from domain.use_cases.lanes import CALL_DEADLINE, LEASE_SECONDS, SETTLE_SECONDS
from projections import PROJECTIONS

EXAMPLES = 3
ALL = 1_000_000

# Every head, tombstones too.
_HEADS = """
SELECT g.stream, h.id, h.hash, encode(b.address, 'hex') AS address, h."row", h.version
FROM migration_ledger.heads h
JOIN migration_ledger.generations g ON g.gid = h.gid
LEFT JOIN migration_ledger.bodies b ON b.id = h.body
"""

# Who still holds leases and has taken none over lately: who has may doubt a former holder's writes,
# and keeps its leases when it stops, so that the next one looks again.
_HOLDERS = f"""
SELECT DISTINCT holder FROM migration_ledger.applications a
WHERE NOT released AND lease_until > now() AND NOT EXISTS (
    SELECT FROM faults.takeovers t
    WHERE t.after = a.holder AND t.at > now() - interval '{SETTLE_SECONDS + LEASE_SECONDS} s'
)
"""  # noqa: S608

# Every body that was ever referred to.
_BODIES = "SELECT encode(address, 'hex') AS address FROM migration_ledger.bodies"

_RANGES = "SELECT flow, number FROM migration_ledger.flow_ranges"

# What is not applied or halts.
_BEHIND = """
SELECT g.physical, g.recorded, a.applied, a.halted_at
FROM migration_ledger.generations g JOIN migration_ledger.applications a ON a.generation = g.stream
WHERE g.recorded > a.applied OR a.halted_at IS NOT NULL
"""

# Note every lease that is taken over, and how long before it may be: its end and the grace.
WATCH_LEASES = """
CREATE SCHEMA faults;
CREATE TABLE faults.takeovers (
    before text, after text, early interval, at timestamptz DEFAULT clock_timestamp()
);
CREATE FUNCTION faults.note_takeover() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO faults.takeovers VALUES (
        OLD.holder, NEW.holder,
        OLD.lease_until + make_interval(secs => {grace}) - clock_timestamp()
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER takeover AFTER UPDATE ON migration_ledger.applications FOR EACH ROW
WHEN (NOT OLD.released AND OLD.holder <> NEW.holder) EXECUTE FUNCTION faults.note_takeover();
"""

_TAKEOVERS = "SELECT before, after, early FROM faults.takeovers WHERE early > interval '0'"

_TIP = "SELECT position FROM migration_ledger.tip"
_COUNT = "SELECT count(*) FROM migration_ledger.events"


async def check_chain(database: Database, connection: asyncpg.Connection) -> list[str]:
    """Positions are dense, and each event has the hash that follows from the one before."""
    findings = []
    try:
        await verify_chain(database)
    except Corrupt as error:
        findings.append(str(error))
    tip, count = await connection.fetchval(_TIP), await connection.fetchval(_COUNT)
    if tip != count:
        findings.append(f"the last position is {tip}, and there are {count} events")
    return findings


def check_steps(events: Iterable[Recorded]) -> list[str]:
    """Each step is started, completed and undone once, and each range of a flow recorded once."""
    counts: Counter[str] = Counter()
    for recorded in events:
        event = recorded.event
        if isinstance(
            event, Migration.StepStarted | Migration.StepCompleted | Migration.StepCompensated
        ):
            counts[f"{recorded.topic} {event.step} of migration {recorded.stream}"] += 1
        elif isinstance(event, FlowRange.Created):
            counts[f"range {event.number} of flow {event.flow}"] += 1
        elif isinstance(event, Migration.StepFailed | Migration.RollbackFailed):
            counts[f"{event.step} failed: {event.error}"] += 2
        elif isinstance(event, Application.ChangeDeadLettered):
            counts[f"dead letter of {recorded.stream}: {event.cause}"] += 2
    findings = [f"recorded {count} times: {what}" for what, count in counts.items() if count > 1]
    return findings + _copied_twice(list(events))


def _copied_twice(events: list[Recorded]) -> list[str]:
    """A range's result says how many points went where; its change sets hold no more."""
    placed: Counter[tuple[str, int, str]] = Counter()
    held: Counter[tuple[str, int, str]] = Counter()
    for recorded in events:
        event = recorded.event
        if isinstance(event, FlowRange.Created):
            for target, count in event.placed.items():
                placed[event.flow, event.number, target] = count
        elif isinstance(event, Generation.ChangeSetRecorded) and "flow" in event.source:
            source = event.source
            held[source["flow"], source["range"], str(recorded.stream)] += event.upserts
    return [
        f"range {number} of flow {flow} placed {placed[flow, number, target]} points in {target}, "
        f"and its change sets hold {count}"
        for (flow, number, target), count in held.items()
        if count > placed[flow, number, target]
    ]


def check_cut_over(events: Iterable[Recorded]) -> list[str]:
    """When an alias is pointed, the store has a receipt for all that was copied before."""
    copied: dict[UUID, int] = {}
    applied: dict[UUID, int] = defaultdict(int)
    pointed: set[UUID] = set()
    streams: dict[UUID, UUID] = {}
    findings = []
    for recorded in events:
        event = recorded.event
        if isinstance(event, Application.Created):
            streams[recorded.stream] = UUID(event.generation)
        elif isinstance(event, Application.ChangesApplied):
            applied[streams[recorded.stream]] = event.through
        elif isinstance(event, Generation.ChangeSetRecorded) and "flow" in event.source:
            copied[recorded.stream] = recorded.version
            if recorded.stream in pointed:
                findings.append(f"position {recorded.position} copies to what serves already")
        elif isinstance(event, Generation.AliasPointed):
            pointed.add(recorded.stream)
            last = copied.get(recorded.stream, 0)
            if applied[recorded.stream] < last:
                findings.append(
                    f"alias {event.alias} was pointed at position {recorded.position}, when "
                    f"{applied[recorded.stream]} of {last} changes were applied"
                )
    return findings[:EXAMPLES]


async def check_heads(
    ledger: PostgresLedger, connection: asyncpg.Connection, events: Iterable[Recorded]
) -> list[str]:
    """Heads are what the manifests of all change sets come to."""
    expected: dict[tuple[UUID, bytes], tuple[Any, ...]] = {}
    changes = [r for r in events if isinstance(r.event, Generation.ChangeSetRecorded)]
    for recorded in changes:
        address = vars(recorded.event)["manifest"]
        manifest = (await ledger.manifests([address]))[address]
        for row, key in enumerate(manifest.keys):
            point_hash = manifest.hashes[row]
            body = (
                (None, None)
                if point_hash is None
                else (manifest.objects[manifest.object_index[row]], manifest.rows[row])
            )
            expected[recorded.stream, key] = (point_hash, *body, recorded.version)
    found = {
        (UUID(bytes=row["stream"].bytes), row["id"]): (
            row["hash"],
            row["address"],
            row["row"],
            row["version"],
        )
        for row in await connection.fetch(_HEADS)
    }
    wrong = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    return [f"{len(wrong)} of {len(expected)} heads are not what was recorded"] if wrong else []


async def check_objects(objects: Objects, connection: asyncpg.Connection) -> list[str]:
    """Every body that a head or a manifest refers to is there, with the bytes of its address."""
    missing = []
    for row in await connection.fetch(_BODIES):
        try:
            await objects.get(row["address"])
        except Corrupt as error:
            missing.append(str(error))
    return [f"{len(missing)} bodies: {missing[0]}"] if missing else []


async def check_views(views: PostgresViews, events: list[Recorded]) -> list[str]:
    """Read models are what comes of all events."""
    findings = []
    for projection in PROJECTIONS:
        rebuilt: dict[str, Any] = {}
        for recorded in events:
            key = projection.key(recorded)
            if key is not None:
                document = projection.apply(rebuilt.get(key), recorded)
                rebuilt[key] = document
        rebuilt = {key: document for key, document in rebuilt.items() if document is not None}
        live = dict(await views.find(projection.name, limit=ALL))
        wrong = [key for key in rebuilt.keys() | live.keys() if rebuilt.get(key) != live.get(key)]
        if wrong:
            findings.append(
                f"{projection.name}: {len(wrong)} of {len(rebuilt)} documents differ, "
                f"such as {wrong[0]}"
            )
    return findings


async def watch_leases(connection: asyncpg.Connection) -> None:
    """Let the database note takeovers, for `check_leases`."""
    await connection.execute(WATCH_LEASES.format(grace=CALL_DEADLINE))


async def check_leases(connection: asyncpg.Connection) -> list[str]:
    """A lease is taken over after its end and the deadline of a call, never before."""
    return [
        f"{row['after']} took the lease of {row['before']} over {row['early']} too early"
        for row in await connection.fetch(_TAKEOVERS)
    ][:EXAMPLES]


async def check_nothing_left(connection: asyncpg.Connection, *, calm: bool) -> list[str]:
    """No range waits, no change waits or halts; and no lease is held, if all was calm for long."""
    findings = [f"range left: {tuple(row)}" for row in await connection.fetch(_RANGES)]
    findings += [
        f"{row['physical']} is applied through {row['applied']} of {row['recorded']}"
        + (f" and halts at {row['halted_at']}" if row["halted_at"] else "")
        for row in await connection.fetch(_BEHIND)
    ]
    held = await connection.fetch(_HOLDERS) if calm else []
    return findings + [f"{row['holder']} stopped and holds leases" for row in held]
