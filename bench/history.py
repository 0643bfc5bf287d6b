"""A ledger with a long history: the events of many migrations, without their points.

The mix is that of real migrations: for every 100 events about 45 change sets, 45 receipts, 9 ranges
of flows, and what there is once for each collection or migration.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from adapters.postgres.appending import append_batch, encode_events
from adapters.postgres.connection import Database
from bench.points import schema
from domain.model.aggregate import (
    NOT_RECORDED,
    Actor,
    Context,
    LedgerAggregate,
    pending_events,
    stream_id,
)
from domain.model.application import Application
from domain.model.bodies import address_of
from domain.model.flow import FlowRange
from domain.model.generation import Generation
from domain.model.migration import Migration
from domain.model.plan import Plan
from domain.model.recipes.steps import adopt_step, check_step

COLLECTIONS = 20
CHANGES = 40
CHANGES_A_RANGE = 5
COMMANDS_AT_ONCE = 500
Recording = tuple[Sequence[AggregateEvent], Context]


async def record_history(database: Database, count: int) -> Counter[str]:
    """Append about `count` events; returns how many there are of each topic."""
    topics: Counter[str] = Counter()
    recordings = _history()
    while topics.total() < count:
        commands = [encode_events(*one) for one in islice(recordings, COMMANDS_AT_ONCE)]
        async with database.connection() as connection:
            outcomes = await append_batch(connection, commands)
        if not all(outcome.appended for outcome in outcomes):
            raise RuntimeError("the ledger has such a history already")
        topics.update(event.topic for command in commands for event in command.events)
    return topics


def _history() -> Iterator[Recording]:
    """Migration after migration."""
    number = 0
    while True:
        number += 1
        yield from _migration(number)


def _migration(number: int) -> Iterator[Recording]:
    names = [f"source_{number}_{n}__g1" for n in range(COLLECTIONS)]
    plan = Plan(
        steps=(adopt_step("prod", ["shared"], 500, observed=False), check_step("prod", names)),
        facts={},
        estimates={"points": {"shared": COLLECTIONS * CHANGES * 500}},
    )
    migration = Migration(
        name=f"split {number}",
        recipe="per-domain-collections",
        spec={"name": f"split {number}", "on_failure": "rollback"},
        attempt=1,
        plan=plan.to_json(),
        plan_hash=plan.hash,
    )
    person = Context(Actor("mara", "os-user"), "Domain isolation")
    yield pending_events(migration), person
    migration.start(plan.hash)
    yield pending_events(migration), person
    worker = Context(Actor("worker", "service"), "", str(migration.id), "cause")
    for step in plan.steps:
        migration.start_step(step)
        yield pending_events(migration), worker
        if step is plan.steps[0]:
            for physical in names:
                yield from _collection(physical, str(migration.id), worker)
        migration.complete_step(step, {})
        yield pending_events(migration), worker
    migration.complete({"points_moved": COLLECTIONS * CHANGES * 500})
    yield pending_events(migration), worker


def _collection(physical: str, migration: str, context: Context) -> Iterator[Recording]:
    generation = Generation(
        collection=physical,
        store="prod",
        physical=physical,
        number=1,
        schema=schema(384).to_json(),
        origin="created",
    )
    yield pending_events(generation), context
    application = Application(generation=str(generation.id), physical=physical)
    flow = str(stream_id("flow", migration, physical))
    for change in range(CHANGES):
        yield [_change_set(generation.id, change, flow)], context
        application.receipt(change + 2, 500)
        yield pending_events(application), context
        if change % CHANGES_A_RANGE == 0:
            yield [_range(flow, change // CHANGES_A_RANGE, str(generation.id))], context


def _change_set(generation: UUID, change: int, flow: str) -> LedgerAggregate.Event:
    fields: dict[str, Any] = {
        "manifest": address_of(f"{generation}/{change}".encode()),
        "upserts": 500,
        "deletes": 0,
        "added": 500,
        "captured": False,
        "source": {"flow": flow, "range": change // CHANGES_A_RANGE, "step": "flow"},
    }
    return Generation.ChangeSetRecorded(
        originator_id=generation,
        originator_version=change + 2,
        timestamp=NOT_RECORDED,
        **fields,
    )


def _range(flow: str, number: int, generation: str) -> AggregateEvent:
    recorded = FlowRange(
        flow=flow,
        kind="route",
        number=number,
        read=500 * CHANGES_A_RANGE,
        placed={generation: 500 * CHANGES_A_RANGE},
        unplaced={},
        examples={},
        following={"after": "00"},
    )
    [event] = pending_events(recorded)
    return event
