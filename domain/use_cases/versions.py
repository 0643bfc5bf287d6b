"""Note versions of collections, and find them again."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from domain.model.aggregate import Context
from domain.model.errors import Conflict, NotFound, Rejected
from domain.model.generation import WITHOUT_VERSION, Generation
from domain.model.migration import Migration
from domain.model.plan import StepKind
from domain.model.points import Digest
from domain.model.recorded import Recorded
from domain.model.spec import nearest
from domain.model.version import Occasion, Version
from domain.ports import GenerationStatus, Ledger
from domain.use_cases.merge import recorded_points
from domain.use_cases.names import aliases_of
from domain.use_cases.tools import Tools, save_first, topic_events

EVENTS_AT_ONCE = 16


@dataclass(frozen=True)
class Place:
    """A version of a collection, noted or not.

    Attributes:
        status: the generation that it is of.
        through: version of the generation's stream.
        position: of that event in the ledger.
    """

    status: GenerationStatus
    through: int
    position: int


async def digest_at(ledger: Ledger, generation: UUID, through: int) -> Digest:
    """The digest of a generation at a version; memory stays at one page."""
    digest = Digest()
    async for keys, hashes in recorded_points(ledger, generation, through):
        digest.extend(keys, hashes)
    return digest


async def digest_by_now(ledger: Ledger, version: Mapping[str, Any]) -> str:
    """The digest of a version that a plan has noted, hexadecimal; without who was erased since."""
    generation, through = UUID(version["generation"]), version["through"]
    if not await ledger.count_erased(generation, through):
        return str(version["digest"])
    return (await digest_at(ledger, generation, through)).hexdigest()


async def tag_version(
    tools: Tools, store: str, name: str, label: str, at: str | None, context: Context
) -> Version:
    """Give a version of a collection a label; the same again changes nothing.

    Raises:
        NotFound: there is no such collection or version.
        Rejected: the label looks like a position or a time.
        Conflict: another version of the collection has this label.
    """
    _refuse_ambiguous(label)
    place = await find_version(tools, store, name, at)
    stream = Version.create_id(store, place.status.collection, Occasion.TAGGED, label, "", "")
    known = await tools.ledger.load(Version, stream)
    if known is None:
        version = await _noted(tools.ledger, place, Occasion.TAGGED, label=label)
        if await save_first(tools.ledger, version, f"version/{stream}", context):
            return version
        return await tag_version(tools, store, name, label, at, context)
    if (known.generation, known.through) != (place.status.generation, place.through):
        raise Conflict(
            f"{label!r} is the label of the version at position {known.position} already; "
            "choose another one"
        )
    return known


async def note_versions(
    tools: Tools, migration: Migration, occasion: Occasion, context: Context
) -> None:
    """Note what the collections of a migration are at its end; again changes nothing.

    After a rollback these are the collections that were there before it.
    """
    made = (
        set(named_collections(migration, StepKind.CREATE))
        if occasion is Occasion.ROLLED_BACK
        else set()
    )
    for store, physical in named_collections(migration, StepKind.CHECK):
        if (store, physical) in made:
            continue
        known = await tools.applications.generations(store=store, physical=physical)
        if not known:  # the migration did not come so far
            continue
        status = known[-1]
        stream = Version.create_id(
            store, status.collection, occasion, "", str(migration.id), str(status.generation)
        )
        if await tools.ledger.load(Version, stream) is None:
            place = await _last(tools.ledger, status)
            version = await _noted(tools.ledger, place, occasion, migration=str(migration.id))
            await save_first(tools.ledger, version, f"version/{stream}", context)


def named_collections(migration: Migration, *kinds: StepKind) -> list[tuple[str, str]]:
    """Store and physical name of the collections that steps of some kinds are about, each once."""
    found = [
        (step.params["store"], one["physical"] if isinstance(one, dict) else one)
        for step in migration.plan.steps
        if step.kind in kinds
        for one in step.params.get("collections", ())
    ]
    return [*dict.fromkeys(found)]


async def _last(ledger: Ledger, status: GenerationStatus) -> Place:
    """The last version of a generation; of one that is gone, that before it went."""
    return await place_at(ledger, status, status.recorded - status.gone)


async def place_at(ledger: Ledger, status: GenerationStatus, through: int) -> Place:
    """A version by the last event that made it: repairs and holds make none."""
    while True:
        first = max(0, through - EVENTS_AT_ONCE)
        events = await ledger.events(status.generation, after=first, through=through)
        for recorded in reversed(events):
            if not isinstance(recorded.event, WITHOUT_VERSION):
                return Place(status, recorded.version, recorded.position)
        through = first


async def _noted(
    ledger: Ledger, place: Place, occasion: Occasion, *, label: str = "", migration: str = ""
) -> Version:
    status = place.status
    digest = await digest_at(ledger, status.generation, place.through)
    return Version(
        collection=status.collection,
        store=status.store,
        physical=status.physical,
        generation=str(status.generation),
        through=place.through,
        position=place.position,
        occasion=occasion,
        label=label,
        migration=migration,
        points=digest.points,
        digest=digest.hexdigest(),
    )


async def find_version(tools: Tools, store: str, name: str, at: str | None) -> Place:
    """A version of a collection.

    Args:
        tools: the ports.
        store: name of the store connection.
        name: of the collection: logical, or an alias; a physical name means what is under it.
        at: a label, a position, an ISO 8601 time, or None for the last version.

    Raises:
        NotFound: there is no such collection, or it has no such version.
    """
    aliases = await aliases_of(tools, store, name)
    generations = await _generations(tools, store, name, aliases)
    if at is None:
        meant = _meant(generations, name, aliases)
        live = [status for status in meant if not status.gone]
        return await _last(tools.ledger, await serving(tools, live or meant))
    version = await _labelled(tools.ledger, generations, at)
    if version is not None:
        status = await tools.applications.status(version.generation)
        if status is None:
            raise NotFound(f"there is no generation {version.generation}")
        return Place(status, version.through, version.position)
    position = await _position(tools.ledger, at)
    if position is None:
        raise NotFound(
            f"collection {name!r} has no version {at!r}: neither a label, a position nor an "
            f"ISO 8601 time{nearest(at, await _labels(tools.ledger, generations))}"
        )
    last = {}
    for status in generations:
        recorded = await tools.ledger.event_at(status.generation, position)
        if recorded is not None and not isinstance(
            recorded.event, Generation.Dropped | Generation.Released
        ):
            last[status] = recorded.version
    if not last:
        raise NotFound(await _too_early(tools.ledger, name, at, generations))
    found = await serving(tools, _meant([*last], name, aliases), position)
    return await place_at(tools.ledger, found, last[found])


def _meant(
    generations: Sequence[GenerationStatus], name: str, aliases: Mapping[str, str]
) -> Sequence[GenerationStatus]:
    """Which generations of a collection a name means: of a physical name only those under it.

    One that is an alias by now means whatever it points to, whatever was under it before.
    """
    under = [status for status in generations if name == status.physical != status.collection]
    return generations if name in aliases else under or generations


async def labelled_version(tools: Tools, store: str, name: str, label: str) -> Version | None:
    """The version of a collection that has this label, or None.

    Raises:
        NotFound: there is no such collection.
    """
    return await _labelled(tools.ledger, await generations_of(tools, store, name), label)


async def _labelled(
    ledger: Ledger, generations: Iterable[GenerationStatus], label: str
) -> Version | None:
    for store, collection in {(status.store, status.collection) for status in generations}:
        stream = Version.create_id(store, collection, Occasion.TAGGED, label, "", "")
        version = await ledger.load(Version, stream)
        if version is not None:
            return version
    return None


def _refuse_ambiguous(label: str) -> None:
    if not label or label.isdecimal() or _time(label) is not None:
        raise Rejected(f"{label!r} cannot be a label: it reads as nothing, a position or a time")


async def generations_of(tools: Tools, store: str, name: str) -> list[GenerationStatus]:
    """Every generation that serves or served this name, oldest first.

    Raises:
        NotFound: there is none.
    """
    return await _generations(tools, store, name, await aliases_of(tools, store, name))


async def _generations(
    tools: Tools, store: str, name: str, aliases: Mapping[str, str]
) -> list[GenerationStatus]:
    known = await tools.applications.generations(store=store)
    names = {name, aliases.get(name, name)}
    found = [status for status in known if {status.collection, status.physical} & names]
    if not found:
        listed = sorted({status.collection for status in known})
        raise NotFound(
            f"the ledger does not know collection {name!r} in store {store!r}"
            f"{nearest(name, listed)}"
        )
    collections = {status.collection for status in found}
    return [status for status in known if status.collection in collections]


async def serving(
    tools: Tools, generations: Sequence[GenerationStatus], position: int | None = None
) -> GenerationStatus:
    """Which of the generations of a collection serves its name, or did at a position.

    A copy that is being made does not serve yet, and one that is kept warm does not any more. Where
    no alias tells, it is the one that has the name itself, else the last one.

    Args:
        tools: the ports.
        generations: those that are there, oldest first, of one store; at least one.
        position: of the ledger, or None for now.
    """
    if len(generations) == 1:
        return generations[0]
    known = await tools.applications.generations(store=generations[0].store)
    streams = {status.generation for status in known}
    named = [status for status in generations if status.physical == status.collection]
    found = [*generations, *named][-1]
    async with aclosing(topic_events(tools.ledger, "generation.alias-")) as events:
        async for recorded in events:
            if position is not None and recorded.position > position:
                break
            if recorded.stream in streams:
                found = next((s for s in generations if _serves(recorded, s)), found)
    return found


def _serves(recorded: Recorded, status: GenerationStatus) -> bool:
    """Whether an event of a store points a name of a collection to one of its generations."""
    event = recorded.event
    if isinstance(event, Generation.AliasRemoved):
        return event.restore == status.physical
    return isinstance(event, Generation.AliasPointed) and recorded.stream == status.generation


async def _position(ledger: Ledger, at: str) -> int | None:
    """The last position at a position or time; None if it is neither.

    Raises:
        NotFound: it is beyond the end of the ledger.
    """
    head = await ledger.head()
    if at.isdecimal():
        if int(at) > head.position:
            raise NotFound(f"position {at} is not there yet: the ledger ends at {head.position}")
        return int(at)
    time = _time(at)
    return None if time is None else await ledger.position_at(time)


def _time(text: str) -> datetime | None:
    """A time as people write it; without an offset it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


async def _labels(ledger: Ledger, generations: Iterable[GenerationStatus]) -> list[str]:
    """Labels of the versions of these generations."""
    wanted = {str(status.generation) for status in generations}
    return [
        recorded.event.label
        async for recorded in topic_events(ledger, "version.")
        if isinstance(recorded.event, Version.Created)
        and recorded.event.label
        and recorded.event.generation in wanted
    ]


async def _too_early(
    ledger: Ledger, name: str, at: str, generations: Iterable[GenerationStatus]
) -> str:
    firsts: list[Recorded] = []
    for status in generations:
        firsts += await ledger.events(status.generation, through=1)
    first = min(firsts, key=lambda recorded: recorded.position)
    return (
        f"the ledger did not look after collection {name!r} at {at}; it does since position "
        f"{first.position}, {first.at}"
    )
