"""Timelines: the histories that a ledger has had, and who has seen which.

A ledger begins on timeline 1. A database that is restored from an older backup lacks events that
others have seen: topics, stores, readers. `recover` then starts the next timeline, and everything
that was derived from a lower one no longer counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.model.aggregate import LedgerAggregate, stream_id
from domain.model.recorded import Cursor

FINDINGS_NAMED = 3


@dataclass(frozen=True)
class Witness:
    """Something outside the ledger that says how far the ledger had come when it was written.

    Attributes:
        where: what it is, for people: ``topic ledger.events[3]``.
        position: of the last event that it has seen.
        hash: of that event, hexadecimal.
        timeline: on which it has seen the event; None if it has always been part of the ledger.
        ledger: id of the ledger; empty if it does not say.
        collection: of a collection, the names of its store and itself; empty for everything else.
        generation: of a collection, the stream whose changes it has.
        version: of a collection, the last change of that stream that it has.
        unfinished: of a collection, whether a recovery was still filling it.
    """

    where: str
    position: int
    hash: str
    timeline: int | None = None
    ledger: str = ""
    collection: tuple[str, ...] = ()
    generation: str = ""
    version: int = 0
    unfinished: bool = False

    @classmethod
    def of(cls, where: str, cursor: Cursor) -> "Witness":
        """A reader of the ledger, by its cursor."""
        return cls(where, cursor.position, cursor.hash.hex())

    @property
    def cursor(self) -> Cursor:
        """The event that it has seen."""
        return Cursor(self.position, bytes.fromhex(self.hash))


@dataclass(frozen=True)
class Finding:
    """A witness that the ledger contradicts, or a collection that is gone.

    Attributes:
        where: what it is.
        position: of the last event that the witness has seen; 0 of a collection that is gone.
        hash: of that event, hexadecimal.
        timeline: on which it has seen the event.
        says: what is wrong, in a sentence without its end.
        collection: the names of its store and itself; empty for everything else.
    """

    where: str
    position: int
    hash: str
    timeline: int
    says: str
    collection: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form in which it is recorded: no payloads, no vectors."""
        return {**asdict(self), "collection": list(self.collection)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Finding":
        """The finding that `to_json` wrote."""
        return cls(**{**document, "collection": tuple(document["collection"])})


@dataclass(frozen=True)
class Halt:
    """Why nothing goes on.

    Attributes:
        since: when the first witness spoke, by the database's clock.
        findings: by where they were made.
    """

    since: datetime
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Standing:
    """Which history of which ledger a database has.

    Attributes:
        ledger: id, the same in every copy of the database.
        timeline: number of the history, from 1.
        halt: why nothing goes on, or None.
    """

    ledger: str
    timeline: int
    halt: Halt | None = None


def contradicted(witness: Witness, standing: Standing, head: Cursor, *, known: bool) -> str | None:
    """What is wrong with what a witness says, or None.

    Args:
        witness: of this ledger.
        standing: of the ledger.
        head: where the ledger ends.
        known: whether the ledger has the witness's event.
    """
    timeline = standing.timeline if witness.timeline is None else witness.timeline
    if timeline < standing.timeline:
        return None
    if timeline > standing.timeline:
        return (
            f"{witness.where} is of timeline {timeline}, and the ledger is on timeline "
            f"{standing.timeline}"
        )
    if known:
        return None
    if witness.position > head.position:
        return (
            f"{witness.where} is at position {witness.position}, and the ledger ends at "
            f"{head.position}"
        )
    return f"{witness.where} has another event at position {witness.position} than the ledger"


def summary(findings: Sequence[Finding]) -> str:
    """The first findings, and how many more there are."""
    named = "; ".join(finding.says for finding in findings[:FINDINGS_NAMED])
    more = len(findings) - FINDINGS_NAMED
    return f"{named}; and {more} more" if more > 0 else named


class Timeline(LedgerAggregate):
    """One history of the ledger, from the recovery that began it."""

    TOPIC = "timeline"

    class Created(LedgerAggregate.Created):
        """A recovery began a history: what others have seen beyond this point no longer counts.

        Attributes:
            number: of the timeline, greater than every number seen anywhere.
            position: where the ledger stood.
            hash: of the event there, hexadecimal.
            found: the witnesses that the ledger contradicts: where, position, hash, timeline.
        """

        TOPIC = "timeline.started"
        number: int
        position: int
        hash: str
        found: list[dict[str, Any]]

    class Recovered(LedgerAggregate.Event):
        """Everything derived was compared with the ledger and put right; work goes on.

        Attributes:
            statistics: collections and points by what became of them.
        """

        TOPIC = "timeline.recovered"
        statistics: dict[str, int]

        def apply(self, aggregate: "Timeline") -> None:
            aggregate.recovered = True

    def __init__(
        self,
        number: int,
        position: int,
        hash: str,  # noqa: A002
        found: list[dict[str, Any]],
    ) -> None:
        self.number = number
        self.position = position
        self.hash = hash
        self.found = [Finding.from_json(document) for document in found]
        self.recovered = False

    @staticmethod
    def create_id(number: int) -> UUID:
        """The stream of a timeline."""
        return stream_id("timeline", number)

    def finish(self, statistics: dict[str, int]) -> None:
        """Note how the recovery ended."""
        self.trigger_event(self.Recovered, statistics=statistics)
