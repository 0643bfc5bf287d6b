"""What several suites make their ledgers of."""

from typing import Any, cast
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from domain.model.aggregate import Actor, Context, LedgerAggregate
from domain.model.application import Application
from domain.model.generation import Generation
from domain.model.recorded import ChangeSetDraft, Command
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.ports import Ledger

CONTEXT = Context(Actor("mara", "os-user"), reason="because", correlation_id="c-1")
SCHEMA = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE)})
BODY = "ab" * 32


def generation(physical: str = "docs__g1", number: int = 1, store: str = "prod") -> Generation:
    return Generation(
        collection="docs",
        store=store,
        physical=physical,
        number=number,
        schema=SCHEMA.to_json(),
        origin="created",
    )


def application(number: int = 1, receipts: int = 0) -> Application:
    made = Application(generation=str(UUID(int=number)), physical="docs__g1")
    for through in range(1, receipts + 1):
        made.receipt(through, points=10)
    return made


def pending(aggregate: LedgerAggregate) -> list[AggregateEvent]:
    return cast("list[AggregateEvent]", aggregate.collect_events())


def command(key: str, *aggregates: LedgerAggregate, context: Context = CONTEXT) -> Command:
    return Command(key, [event for one in aggregates for event in pending(one)], context)


async def create(ledger: Ledger, physical: str = "docs__g1", store: str = "prod") -> UUID:
    made = generation(physical, store=store)
    await ledger.append(command(f"create {store} {physical}", made))
    return made.id


def key(number: int) -> bytes:
    return b"\x00" + number.to_bytes(8, "big")


def point_hash(number: int) -> bytes:
    return number.to_bytes(16, "big")


def draft(generation: UUID, points: dict[int, int | None], **facts: Any) -> ChangeSetDraft:
    """A change set: point number to the number of its new hash, or None to delete it."""
    return ChangeSetDraft(
        generation=generation,
        keys=[key(number) for number in points],
        hashes=[None if value is None else point_hash(value) for value in points.values()],
        objects=facts.pop("objects", [BODY]),
        object_index=[0] * len(points),
        rows=[0 if value is None else row for row, value in enumerate(points.values())],
        **facts,
    )
