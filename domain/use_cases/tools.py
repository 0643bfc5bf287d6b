"""The ports that use cases work with, and what several of them do with the ledger."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from domain.model.aggregate import Context, LedgerAggregate, pending_events
from domain.model.application import Application
from domain.model.errors import ChangedMeanwhile, KeyReused, NotFound, VersionConflict
from domain.model.generation import Generation
from domain.model.migration import Migration
from domain.model.recorded import Answer, Command, Recorded
from domain.model.schema import CollectionSchema
from domain.ports import A, Applications, FlowRanges, GenerationStatus, Ledger, Objects, Stores

T = TypeVar("T")

CONFLICT_ATTEMPTS = 20
EVENTS_AT_ONCE = 500
TOPIC_EVENTS_AT_ONCE = 5000
REPORTS_AT_ONCE = 16


@dataclass(frozen=True)
class Tools:
    """Everything that steps, flows and appliers need from the outside."""

    ledger: Ledger
    objects: Objects
    applications: Applications
    ranges: FlowRanges
    stores: Stores


async def save(ledger: Ledger, aggregate: LedgerAggregate, key: str, context: Context) -> Answer:
    """Record what an aggregate decided; nothing decided records nothing."""
    events = pending_events(aggregate)
    if not events:
        return Answer(position=0, count=0, repeated=True)
    return await ledger.append(Command(key, events, context))


async def save_first(
    ledger: Ledger, aggregate: LedgerAggregate, key: str, context: Context
) -> bool:
    """Record what an aggregate decided; False if somebody else recorded something first."""
    try:
        await save(ledger, aggregate, key, context)
    except (VersionConflict, KeyReused):
        return False
    return True


async def update(
    ledger: Ledger,
    kind: type[A],
    stream: UUID,
    key: str,
    context: Context,
    decide: Callable[[A], None],
) -> A:
    """Load an aggregate, let it decide, and record that; again if somebody else was faster.

    A key that was recorded before makes this a no-op, so that a worker may repeat it after a
    crash. Again reads only what came since: a stream may be long, and grow all the time.

    Raises:
        NotFound: there is no such aggregate.
        VersionConflict: others were faster many times in a row.
    """
    known = await ledger.load(kind, stream)
    if known is None:
        raise NotFound(f"there is no {kind.__name__.lower()} {stream}")
    for attempt in range(CONFLICT_ATTEMPTS):
        if await ledger.answer(key) is not None:
            return await _caught_up(ledger, known)
        known = await _caught_up(ledger, known)
        aggregate = deepcopy(known)
        decide(aggregate)
        try:
            await save(ledger, aggregate, key, context)
        except VersionConflict:
            if attempt + 1 == CONFLICT_ATTEMPTS:
                raise
        else:
            return aggregate
    raise AssertionError


async def _caught_up(ledger: Ledger, aggregate: A) -> A:
    """An aggregate after everything that was recorded since it was loaded."""
    async for recorded in stream_events(ledger, aggregate.id, after=aggregate.version):
        grown = recorded.event.mutate(aggregate)
        if grown is not None:
            aggregate = grown
    return aggregate


async def unless_changed(attempt: Callable[[], Awaitable[T]]) -> T:
    """What an attempt returns that reads points and records; again if they changed in between.

    Raises:
        ChangedMeanwhile: they changed many times in a row.
    """
    for number in range(CONFLICT_ATTEMPTS):
        try:
            return await attempt()
        except ChangedMeanwhile:
            if number + 1 == CONFLICT_ATTEMPTS:
                raise
    raise AssertionError


async def live_generation(
    applications: Applications, store: str, physical: str
) -> GenerationStatus | None:
    """The generation that looks after a physical collection now, or None."""
    known = await applications.generations(store=store, physical=physical)
    return known[-1] if known and not known[-1].gone else None


async def migration_named(ledger: Ledger, reference: str | None) -> Migration | None:
    """The migration with this id, or None."""
    try:
        stream = UUID(reference or "")
    except ValueError:
        return None
    return await ledger.load(Migration, stream)


async def recorded_schema(ledger: Ledger, generation: UUID) -> CollectionSchema:
    """The schema that a generation was created with.

    Raises:
        NotFound: there is no such generation.
    """
    for created in await ledger.events(generation, through=1):
        if isinstance(created.event, Generation.Created):
            return CollectionSchema.from_json(created.event.schema)
    raise NotFound(f"there is no generation {generation}")


async def stream_events(
    ledger: Ledger, stream: UUID, after: int = 0, page: int | None = None
) -> AsyncGenerator[Recorded, None]:
    """The events of a stream after a version, in order; memory stays at a page."""
    page = page or EVENTS_AT_ONCE
    while events := await ledger.events(stream, after=after, through=after + page):
        for recorded in events:
            yield recorded
        after = events[-1].version


async def topic_events(ledger: Ledger, topics: str) -> AsyncGenerator[Recorded, None]:
    """The events whose topics have this prefix, in order; memory stays at a page."""
    after = 0
    while events := await ledger.read(after, TOPIC_EVENTS_AT_ONCE, topics=topics):
        for recorded in events:
            yield recorded
        after = events[-1].position


async def given_up(ledger: Ledger, generation: UUID) -> bool:
    """Whether a generation's first change was given up: then its collection is somebody else's."""
    reports = stream_events(ledger, Application.create_id(str(generation)), page=REPORTS_AT_ONCE)
    async with aclosing(reports):
        async for report in reports:
            event = report.event
            if isinstance(event, Application.ChangeSkipped):
                return event.change == 1
            if isinstance(event, Application.ChangesApplied | Application.StoreRecovered):
                return False  # its first change is behind it
    return False
