"""Compare a generation in its store with what the ledger says it is, point by point.

Appliers may write meanwhile. The collection is compared with what it is at the applied position at
the beginning; what differs then is read again, and only counts if it is nothing that the point was
between the applied and the recorded position of that moment.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from domain.model.aggregate import Context
from domain.model.errors import Conflict, NotFound
from domain.model.migration import Migration, State
from domain.model.plan import StepKind
from domain.model.points import id_of
from domain.model.recorded import Recorded
from domain.model.verification import VerificationLog
from domain.ports import GenerationStatus, Ledger, VectorStore
from domain.use_cases.concurrently import in_pages
from domain.use_cases.merge import (
    PAGE,
    Difference,
    Side,
    merge,
    recorded_points,
    stored_points,
)
from domain.use_cases.tools import Tools, given_up, live_generation, recorded_schema, save_first

EXAMPLES = 20


@dataclass
class Verification:
    """What a comparison found.

    Attributes:
        physical: name of the collection in the store.
        through: version of the generation's stream that it was compared with.
        position: of that event in the ledger.
        points: that the store has.
        recorded: that the ledger says it has.
        digest: of the store, hexadecimal SHA-256 over sorted (id, hash).
        recorded_digest: of the ledger.
        missing: points that the ledger has and the store has not.
        extra: points that the store has and the ledger has not.
        changed: points that both have, with other content.
        meanwhile: points that appliers wrote while this went on; they are as recorded.
        schema: a sentence for each difference of vectors and indexes.
        examples: ids by kind of difference, the first twenty of each.
    """

    physical: str
    through: int = 0
    position: int = 0
    points: int = 0
    recorded: int = 0
    digest: str = ""
    recorded_digest: str = ""
    missing: int = 0
    extra: int = 0
    changed: int = 0
    meanwhile: int = 0
    schema: list[str] = field(default_factory=list)
    examples: dict[str, list[int | str]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether every bit is as recorded."""
        return not (self.missing or self.extra or self.changed or self.schema)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for events and answers."""
        return {**vars(self), "equal": self.equal}

    def note(self, kind: str, key: bytes) -> None:
        """Count a difference, and keep the first of each kind as examples."""
        setattr(self, kind, getattr(self, kind) + 1)
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(id_of(key))

    def __str__(self) -> str:
        if self.equal:
            return f"{self.physical}: {self.points} points, digest {self.digest}"
        found = [
            f"{count} {kind} (such as {self.examples[kind][0]})"
            for kind in ("missing", "extra", "changed")
            if (count := getattr(self, kind))
        ]
        return f"{self.physical}: {', '.join([*self.schema, *found])}"


async def verify(tools: Tools, store: str, physical: str) -> Verification:
    """Compare a collection with the generation that looks after it, at its applied position.

    Raises:
        NotFound: the ledger does not look after this collection.
    """
    return await compare(tools, await looked_after(tools, store, physical))


async def verify_and_record(
    tools: Tools, status: GenerationStatus, context: Context
) -> Verification:
    """Compare a collection at its applied position, and record what was found.

    Raises:
        NotFound: it was dropped or released meanwhile.
        Halted: work is halted, and nothing can be recorded.
    """
    generation = str(status.generation)
    stream = VerificationLog.create_id(generation)
    while True:
        # Loaded before: what this one sees may be older than what another one says meanwhile.
        log = await tools.ledger.load(VerificationLog, stream)
        log = log or VerificationLog(generation, status.store, status.physical)
        found = await compare(tools, status)
        place = {"through": found.through, "position": found.position}
        if found.equal:
            log.held(**place, points=found.points, digest=found.digest)
        else:
            counts = {
                name: getattr(found, name)
                for name in ("points", "recorded", "missing", "extra", "changed", "examples")
            }
            log.drift_found(**place, **counts, differences=found.schema)
        if await save_first(tools.ledger, log, f"verification/{uuid4()}", context):
            return found


async def ready(tools: Tools, store: str, physical: str) -> GenerationStatus:
    """The generation that looks after a collection, if it can be verified and repaired.

    Raises:
        NotFound: the ledger does not look after this collection.
        Conflict: the ledger cannot say yet what it should be, see `refuse_unready`.
    """
    status = await looked_after(tools, store, physical)
    await refuse_unready(tools, status)
    return status


async def refuse_unready(tools: Tools, status: GenerationStatus) -> None:
    """Refuse a collection of which the ledger cannot say yet what it should be.

    Raises:
        Conflict: nothing of it is applied, it is being adopted, or it was given up.
    """
    if not status.applied:
        raise Conflict(f"nothing of collection {status.physical!r} is applied yet")
    if await given_up(tools.ledger, status.generation):
        raise Conflict(
            f"the first change of collection {status.physical!r} was skipped, so that what is "
            "there is not the ledger's"
        )
    (created,) = await tools.ledger.events(status.generation, through=1)
    if not await _adopted(tools.ledger, created):
        raise Conflict(
            f"collection {status.physical!r} is being adopted; see `migration show "
            f"{created.context.correlation_id}`"
        )


async def is_adopted(tools: Tools, status: GenerationStatus) -> bool:
    """Whether the ledger knows all points that a collection had when it began to look after it."""
    (created,) = await tools.ledger.events(status.generation, through=1)
    return await _adopted(tools.ledger, created)


async def _adopted(ledger: Ledger, created: Recorded) -> bool:
    if vars(created.event)["origin"] != "adopted":
        return True
    asked = created.context.correlation_id
    migration = await ledger.load(Migration, UUID(asked)) if asked else None
    if migration is None or migration.state in {State.CANCELLED, State.ROLLED_BACK}:
        return True  # it was kept because another migration has captured all of it, too
    steps = (step for step in migration.plan.steps if step.kind is StepKind.ADOPT)
    return all(step.id in migration.results for step in steps)


async def looked_after(tools: Tools, store: str, physical: str) -> GenerationStatus:
    """The generation that looks after a collection.

    Raises:
        NotFound: the ledger does not look after this collection.
    """
    status = await live_generation(tools.applications, store, physical)
    if status is None:
        raise NotFound(
            f"the ledger does not look after collection {physical!r} in store {store!r}; "
            "see `collection list`"
        )
    return status


async def compare(tools: Tools, status: GenerationStatus, at: int | None = None) -> Verification:
    """Merge-join a scan of the store with the heads; memory stays at a page of each.

    Args:
        tools: the ports.
        status: of the generation that the collection should be.
        at: version of the generation's stream that it should be, whatever is applied; None for
            what appliers have made of it.
    """
    if at is None:
        status = await _still_there(tools, status)
    through = status.applied if at is None else at
    found = Verification(status.physical, through)
    if through:
        (last,) = await tools.ledger.events(status.generation, after=through - 1, through=through)
        found.position = last.position
        found.schema = list((await schema_differences(tools, status)).sentences)
    if at is None:
        if found.schema:
            await _still_there(tools, status)
        different = confirmed(tools, status, found)
    else:
        store = tools.stores.store(status.store)
        different = differences(tools.ledger, store, status.generation, found, at)
    async with aclosing(different):
        async for kind, key in different:
            found.note(kind, key)
    if found.meanwhile and not (found.missing or found.extra or found.changed):
        found.points, found.digest = found.recorded, found.recorded_digest
    return found


@dataclass(frozen=True)
class SchemaDifferences:
    """How the schema of a collection differs from the recorded one.

    Attributes:
        vectors: a sentence for each vector that is another one.
        lacking: a sentence for each index that is missing or another one, or for the collection.
    """

    vectors: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of them."""
        return self.vectors + self.lacking


async def schema_differences(tools: Tools, status: GenerationStatus) -> SchemaDifferences:
    """How the schema of a collection differs from the one that its generation was created with."""
    description = await tools.stores.store(status.store).describe(status.physical)
    if description is None:
        return SchemaDifferences(lacking=(f"the store has no collection {status.physical!r}",))
    recorded = await recorded_schema(tools.ledger, status.generation)
    there = description.schema.indexes
    return SchemaDifferences(
        vectors=description.schema.differences(recorded),
        lacking=tuple(
            f"the index of {field!r} has other parameters than recorded"
            if field in there
            else f"the index of {field!r} is missing"
            for field in recorded.missing_indexes(there)
        ),
    )


async def confirmed(
    tools: Tools, status: GenerationStatus, found: Verification
) -> AsyncGenerator[Difference, None]:
    """What differs from the applied position, and still does when it is looked at again.

    Args:
        tools: the ports.
        status: of the generation.
        found: as in `differences`; also gets the number of points that appliers wrote meanwhile.
    """
    store = tools.stores.store(status.store)
    different = differences(tools.ledger, store, status.generation, found, found.through)
    async with aclosing(in_pages(different, PAGE)) as pages:
        async for page in pages:
            doubted = [key for _, key in page]
            for difference in await _look_again(tools, status, found, doubted):
                yield difference


async def _look_again(
    tools: Tools, status: GenerationStatus, found: Verification, keys: Sequence[bytes]
) -> list[Difference]:
    before = await _still_there(tools, status)
    there = await stored_hashes(tools, status, keys)
    after = await _still_there(tools, status)
    allowed = await tools.ledger.hashes_between(
        status.generation, keys, before.applied, after.recorded
    )
    different: list[Difference] = []
    for key in keys:
        if there.get(key) in allowed[key]:
            found.meanwhile += 1
        elif key not in there:
            different.append(("missing", key))
        else:
            different.append(("extra" if allowed[key] == {None} else "changed", key))
    return different


async def stored_hashes(
    tools: Tools, status: GenerationStatus, keys: Sequence[bytes]
) -> dict[bytes, bytes]:
    """The hashes of these points in their store; none if it has no such collection."""
    try:
        stored = await tools.stores.store(status.store).retrieve(status.physical, keys)
    except NotFound:
        return {}
    return dict(zip(stored.keys, stored.hashes(), strict=True))


async def _still_there(tools: Tools, status: GenerationStatus) -> GenerationStatus:
    now = await tools.applications.status(status.generation)
    if now is None or now.gone:
        raise NotFound(f"collection {status.physical!r} was dropped or released meanwhile")
    return now


async def differences(
    ledger: Ledger,
    store: VectorStore,
    generation: UUID,
    found: Verification,
    at: int | None = None,
) -> AsyncGenerator[Difference, None]:
    """What is missing, extra or changed in a store: kind and key, each kind in key order.

    The caller may write to points that came; they do not come again.

    Args:
        ledger: that has the heads.
        store: that has the collection; of one that is not there, every point is missing.
        generation: that the collection should be.
        found: names the collection, and gets the counts and digests of both sides at the end.
        at: version of the generation's stream; None for what it is now.
    """
    stored = Side(stored_points(store, found.physical))
    recorded = Side(recorded_points(ledger, generation, at))
    async for difference in merge(stored, recorded):
        yield difference
    found.points, found.digest = stored.digest.points, stored.digest.hexdigest()
    found.recorded, found.recorded_digest = recorded.digest.points, recorded.digest.hexdigest()
