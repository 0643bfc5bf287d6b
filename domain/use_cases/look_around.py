"""What a recovery finds: who has seen another history, and what stores have lost."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from domain.model.application import Application
from domain.model.recorded import Cursor
from domain.model.timeline import Finding, Standing, Timeline, Witness
from domain.ports import Cursors, EventPublisher, GenerationStatus, Views
from domain.use_cases.histories import contradictions, of_another_ledger, where, witnesses_in
from domain.use_cases.names import recorded_aliases
from domain.use_cases.project import witness_of
from domain.use_cases.relay import CURSOR
from domain.use_cases.tools import Tools
from domain.use_cases.witnesses import WITNESS_SECONDS

WITNESS_LATE = timedelta(seconds=2 * WITNESS_SECONDS)
"""Until a collection says what was applied to it, if its applier was not killed."""

Place = tuple[str, str]
"""A name in a store: the store's connection, and an alias or a collection."""


@dataclass(frozen=True)
class Situation:
    """Where everything stands.

    Attributes:
        standing: which ledger this is, on which timeline, and why it is halted.
        head: where the ledger ends.
        findings: what speaks against the ledger, and collections that are gone or older than what
            was applied to them.
        unfinished: the timeline whose recovery began and did not end, or None.
        highest: the highest number of a timeline that was seen.
        wrong: generations whose collections must be put right: they have changes that the ledger
            does not have, lack some, or are gone.
        others: the other generations that are not dropped or released.
        aliases: aliases that must be put right, with the collections that they belong to.
        unknown: collections and aliases that came from this ledger and that it does not know.
        taken: topics with messages of another ledger.
    """

    standing: Standing
    head: Cursor
    findings: tuple[Finding, ...]
    unfinished: Timeline | None
    highest: int
    wrong: tuple[GenerationStatus, ...]
    others: tuple[GenerationStatus, ...]
    aliases: dict[Place, str]
    unknown: tuple[str, ...]
    taken: tuple[Witness, ...]

    @property
    def begins_timeline(self) -> bool:
        """Whether somebody has seen another history, and no timeline was begun for that yet."""
        history = {finding for finding in self.findings if finding.position}
        begun = set(self.unfinished.found) if self.unfinished else set()
        return bool(history - begun)

    @property
    def nothing_to_do(self) -> bool:
        """Whether everything is as the ledger says."""
        return not (
            self.findings or self.standing.halt or self.unfinished or self.wrong or self.aliases
        )


@dataclass
class _Stores:
    """What the stores have.

    Attributes:
        collections: by store and physical name, what they say of the ledger.
        aliases: by store and name, their collections.
    """

    collections: dict[Place, Witness | None] = field(default_factory=dict)
    aliases: dict[Place, str] = field(default_factory=dict)


async def look_around(
    tools: Tools, cursors: Cursors, views: Views, publisher: EventPublisher
) -> Situation:
    """Look at the ledger, its readers, the topics and all stores; changes nothing.

    Raises:
        Unavailable: one of them cannot be asked.
    """
    standing = await tools.ledger.standing()
    head = await tools.ledger.head()
    stores = await _ask_stores(tools)
    topics = await _ask_topics(publisher, standing)
    readers = [Witness.of(f"cursor {CURSOR}", await cursors.get(CURSOR))]
    readers += map(witness_of, await views.builds())
    said = [witness for witness in stores.collections.values() if witness is not None]
    ours = [w for w in (*topics, *said) if not of_another_ledger(w, standing)]
    spoken = await contradictions(tools.ledger, [*ours, *readers], standing)
    timeline = await tools.ledger.load(Timeline, Timeline.create_id(standing.timeline))
    unfinished = timeline if timeline is not None and not timeline.recovered else None
    generations = [s for s in await tools.applications.generations() if not s.gone]
    gone = [
        _gone(status, standing)
        for status in generations
        if status.applied and _place(status) not in stores.collections
    ]
    older = await _older(tools, generations, stores, standing)
    findings = _merged(standing.halt.findings if standing.halt else (), spoken, gone, older)
    touched = {f.collection for f in (*findings, *(unfinished.found if unfinished else ()))}
    wrong = [s for s in generations if _place(s) in touched or await _half_done(tools, s, stores)]
    aliases = await recorded_aliases(tools)
    return Situation(
        standing=standing,
        head=head,
        findings=tuple(findings),
        unfinished=unfinished,
        highest=max([standing.timeline, *(w.timeline or 1 for w in ours)]),
        wrong=tuple(wrong),
        others=tuple(s for s in generations if s not in wrong),
        aliases=_wrong_aliases(aliases, stores, generations, standing),
        unknown=tuple(await _unknown(tools, aliases, stores, standing)),
        taken=tuple(w for w in topics if of_another_ledger(w, standing)),
    )


async def _ask_stores(tools: Tools) -> _Stores:
    found = _Stores()
    for name in tools.stores.names:
        for physical, witness in (await witnesses_in(tools.stores, name)).items():
            found.collections[name, physical] = witness
        for alias, physical in (await tools.stores.store(name).aliases()).items():
            found.aliases[name, alias] = physical
    return found


async def _ask_topics(publisher: EventPublisher, standing: Standing) -> list[Witness]:
    publisher.begin(standing)
    return await publisher.witnesses(await publisher.end_offsets())


def _merged(*found: Iterable[Finding]) -> list[Finding]:
    """Each place once, by what was found there first."""
    places: dict[str, Finding] = {}
    for finding in (finding for findings in found for finding in findings):
        places.setdefault(finding.where, finding)
    return [places[place] for place in sorted(places)]


def _place(status: GenerationStatus) -> Place:
    return status.store, status.physical


def _gone(status: GenerationStatus, standing: Standing) -> Finding:
    name = where(*_place(status))
    return Finding(name, 0, "", standing.timeline, f"{name} is gone", _place(status))


async def _older(
    tools: Tools,
    generations: Iterable[GenerationStatus],
    stores: _Stores,
    standing: Standing,
) -> list[Finding]:
    """Collections that say they have less than was applied: their store may be an older copy.

    An applier that was killed leaves that, too. To compare such a collection does no harm.
    """
    found = []
    for status in generations:
        witness = stores.collections.get(_place(status))
        if (
            witness is None
            or (witness.ledger, witness.generation) != (standing.ledger, str(status.generation))
            or witness.timeline != standing.timeline
            or witness.version >= status.applied
        ):
            continue
        after = witness.version
        for lacking in await tools.ledger.events(status.generation, after=after, through=after + 1):
            if lacking.recorded_at < datetime.now(UTC) - WITNESS_LATE:
                name = where(*_place(status))
                says = f"{name} has changes up to {after}, and {status.applied} were applied to it"
                found.append(Finding(name, 0, "", standing.timeline, says, _place(status)))
    return found


async def _half_done(tools: Tools, status: GenerationStatus, stores: _Stores) -> bool:
    """Whether a collection was not filled to its end.

    A recovery was cut short, or lacked bodies; or the ledger is from before the first receipt, and
    an applier would take what is there for the points of others.
    """
    witness = stores.collections.get(_place(status))
    if (
        witness is not None
        and witness.generation == str(status.generation)
        and (witness.unfinished or not status.applied)
    ):
        return True
    if status.halted_at is None:
        return False
    stream = Application.create_id(str(status.generation))
    application = await tools.ledger.load(Application, stream)
    return application is not None and application.lacking > 0


def _wrong_aliases(
    recorded: dict[Place, str | None],
    stores: _Stores,
    generations: Iterable[GenerationStatus],
    standing: Standing,
) -> dict[Place, str]:
    """Aliases of live generations that point to nothing, or to another collection of ours."""
    live = {_place(status) for status in generations}

    def of_ours(store: str, physical: str) -> bool:
        witness = stores.collections.get((store, physical))
        return witness is not None and witness.ledger == standing.ledger

    return {
        (store, alias): physical
        for (store, alias), physical in recorded.items()
        if physical is not None
        and (store, physical) in live
        and (now := stores.aliases.get((store, alias))) != physical
        and (now is None or (store, now) in live or of_ours(store, now))
    }


async def _unknown(
    tools: Tools, recorded: dict[Place, str | None], stores: _Stores, standing: Standing
) -> list[str]:
    """Collections that say they are this ledger's, and aliases of them, that it does not know.

    And those that it dropped or released, and that are as they were: a store came back older.
    """
    generations = await tools.applications.generations()
    known = {str(status.generation) for status in generations}
    over = {str(s.generation) for s in generations if s.gone and s.applied == s.recorded}
    foreign = {
        place
        for place, witness in stores.collections.items()
        if witness is not None
        and witness.ledger == standing.ledger
        and witness.generation not in known
    }
    returned = {
        place
        for place, witness in stores.collections.items()
        if witness is not None and witness.generation in over
    }
    return [
        *(where(*place) for place in sorted(foreign)),
        *(f"{where(*place)}, which was dropped or released" for place in sorted(returned)),
        *(
            f"alias {alias} of store {store}, which points to {physical}"
            for (store, alias), physical in sorted(stores.aliases.items())
            if (store, physical) in foreign or recorded.get((store, alias), physical) is None
        ),
    ]
