"""Archive the versions of collections that their retention does not keep any more."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from domain.model.aggregate import Context
from domain.model.errors import NotFound
from domain.model.migration import Migration, State
from domain.model.retention import Retention
from domain.model.version import Version
from domain.ports import GenerationStatus, Ledger
from domain.use_cases.tools import Tools, save_first, topic_events
from domain.use_cases.versions import place_at


@dataclass(frozen=True)
class Archived:
    """Versions that were archived, or would be.

    Attributes:
        collection: logical name.
        store: name of the store connection.
        physical: name in the store.
        generation: its stream.
        before: versions of the generation before this one are archived.
        kept: but for these.
        position: of the ledger; to this one and later ones one can still go back.
    """

    collection: str
    store: str
    physical: str
    generation: UUID
    before: int
    kept: list[int]
    position: int


async def leaving(tools: Tools) -> list[Archived]:
    """What the retention of collections does not keep any more, and was not archived yet."""
    kept = await _look(tools.ledger)
    found = [await _leaving(tools, one, kept) for one in await retentions(tools.ledger)]
    return [one for some in found for one in some]


async def archive_versions(tools: Tools, context: Context) -> list[Archived]:
    """Record that versions are archived which leave the window of their retention.

    It may be stopped anywhere; again goes on with what is left.
    """
    done = []
    kept = await _look(tools.ledger)
    for retention in await retentions(tools.ledger):
        decided, found = retention, await _archive(tools, retention, kept)
        while not await save_first(tools.ledger, decided, f"archive/{uuid4()}", context):
            # Somebody decided otherwise, or archived, since it was loaded.
            decided, kept = await _loaded(tools.ledger, retention.id), await _look(tools.ledger)
            found = await _archive(tools, decided, kept)
        done += found
    return done


async def _archive(tools: Tools, retention: Retention, kept: "_Kept") -> list[Archived]:
    found = await _leaving(tools, retention, kept)
    for one in found:
        retention.archive(one.generation, one.before, one.kept)
    return found


@dataclass(frozen=True)
class _Kept:
    """What is kept whatever a policy says.

    Attributes:
        noted: versions by store and collection, in the order of their positions.
        since: the earliest position of which a migration may still read something.
    """

    noted: dict[tuple[str, str], list[Version]]
    since: int


async def _look(ledger: Ledger) -> _Kept:
    return _Kept(await _versions(ledger), await _read_since(ledger))


async def _leaving(tools: Tools, retention: Retention, kept: _Kept) -> list[Archived]:
    """What leaves the window of a collection."""
    if not retention.has_policy or retention.holds:
        return []
    noted = kept.noted.get((retention.store, retention.collection), [])
    border = min(await _border(tools.ledger, retention, noted), kept.since)
    generations = await tools.applications.generations(
        store=retention.store, collection=retention.collection
    )
    found = [await _before(tools.ledger, status, border, noted) for status in generations]
    return [one for one in found if one is not None]


async def _border(ledger: Ledger, retention: Retention, noted: Sequence[Version]) -> int:
    """The position since which everything is kept; the earliest that the policy names."""
    borders = []
    if retention.seconds is not None:
        since = datetime.now(UTC) - timedelta(seconds=retention.seconds)
        borders.append(await ledger.position_at(since))
    if retention.last is not None:
        enough = len(noted) >= retention.last
        borders.append(noted[-retention.last].position if enough else 0)
    return min(borders)


async def _before(
    ledger: Ledger, status: GenerationStatus, border: int, noted: Iterable[Version]
) -> Archived | None:
    """What of a generation comes before a position of the ledger."""
    last = await ledger.event_at(status.generation, border)
    if last is None:
        return None
    at = (await place_at(ledger, status, last.version)).through
    if at <= status.archived_before:
        return None
    labelled = {
        version.through
        for version in noted
        if version.label and version.generation == status.generation
    }
    kept = [
        through for through in sorted(labelled) if through < at and not status.archived(through)
    ]
    return Archived(
        collection=status.collection,
        store=status.store,
        physical=status.physical,
        generation=status.generation,
        before=at,
        kept=kept,
        position=border,
    )


async def _versions(ledger: Ledger) -> dict[tuple[str, str], list[Version]]:
    """Versions that were noted, by store and collection, in the order of their positions."""
    found: dict[tuple[str, str], list[Version]] = defaultdict(list)
    async for recorded in topic_events(ledger, "version."):
        version = recorded.event.mutate(None)
        if isinstance(version, Version):
            found[version.store, version.collection].append(version)
    return {place: sorted(some, key=lambda one: one.position) for place, some in found.items()}


async def retentions(ledger: Ledger) -> list[Retention]:
    """What was decided about collections, in the order in which that began."""
    begun = topic_events(ledger, Retention.Created.TOPIC)
    return [await _loaded(ledger, recorded.stream) async for recorded in begun]


async def _loaded(ledger: Ledger, stream: UUID) -> Retention:
    retention = await ledger.load(Retention, stream)
    if retention is None:
        raise NotFound(f"there is no retention {stream}")
    return retention


async def _read_since(ledger: Ledger) -> int:
    """The earliest position of which a migration may still read something; else the ledger's end.

    It reads what was there when it began, and the version that it goes to.
    """
    earliest = (await ledger.head()).position
    seen: set[UUID] = set()
    async for recorded in topic_events(ledger, Migration.Started.TOPIC):
        if recorded.stream in seen:
            continue
        seen.add(recorded.stream)
        migration = await ledger.load(Migration, recorded.stream)
        if migration is not None and _reads(migration):
            version = migration.plan.facts.get("version", {})
            earliest = min(earliest, recorded.position, version.get("position", earliest))
    return earliest


def _reads(migration: Migration) -> bool:
    """Whether a migration that was started is not over, or keeps a collection warm."""
    if migration.state in {State.ROLLED_BACK, State.CANCELLED}:
        return False
    if migration.state is not State.COMPLETED:
        return True
    until = (result.get("warm_until") for result in migration.results.values())
    return any(datetime.fromisoformat(one) > datetime.now(UTC) for one in until if one)
