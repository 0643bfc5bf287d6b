"""An erasure: the points of a person go for good, and the ledger says so with ids and counts."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from domain.model.aggregate import LedgerAggregate, stream_id

Ids = list[int | str]


class Erasure(LedgerAggregate):
    """Points that are erased from collections, from all of their versions, and from objects."""

    TOPIC = "erasure"

    class Event(LedgerAggregate.Event):
        """What became of it."""

    class Created(Event, LedgerAggregate.Created):
        """From here on no version has these points any more, and nothing new can refer to them.

        What these generations were at lower positions of the ledger is without them; what is
        written under the same ids later is not.

        Attributes:
            number: 1 for the first erasure of the ledger.
            basis: on which ground, in the words of who asked.
            subjects: ids of points by generation; generations that are gone are among them.
        """

        TOPIC = "erasure.begun"
        number: int
        basis: str
        subjects: dict[str, Ids]

    class ObjectsRewritten(Event):
        """Bodies are there without the points; who asks for the old one gets the new one.

        Attributes:
            objects: address of each body that is gone, to that of the one in its place.
        """

        TOPIC = "erasure.objects-rewritten"
        objects: dict[str, str]

        def apply(self, aggregate: "Erasure") -> None:
            aggregate.objects |= self.objects

    class SubjectErased(Event):
        """Collections and objects hold nothing of the points any more.

        Attributes:
            ids: of the points.
            generations: in how many generations they were.
            objects: bodies that were rewritten.
        """

        TOPIC = "erasure.subject-erased"
        ids: Ids
        generations: int
        objects: int

        def apply(self, aggregate: "Erasure") -> None:
            aggregate.done = True

    def __init__(self, number: int, basis: str, subjects: dict[str, Ids]) -> None:
        self.number = number
        self.basis = basis
        self.subjects = {UUID(generation): ids for generation, ids in subjects.items()}
        self.objects: dict[str, str] = {}
        self.done = False

    @staticmethod
    def create_id(number: int) -> UUID:
        """The stream of the n-th erasure."""
        return stream_id("erasure", number)

    @property
    def ids(self) -> Ids:
        """The ids of its points, each once; integers first."""
        found = {point for ids in self.subjects.values() for point in ids}
        return sorted(found, key=lambda point: (isinstance(point, str), point))

    def rewrite(self, objects: dict[str, str]) -> None:
        """Say which bodies are there instead of which."""
        self.trigger_event(self.ObjectsRewritten, objects=objects)

    def finish(self) -> None:
        """Say that nothing is left; again changes nothing."""
        if not self.done:
            self.trigger_event(
                self.SubjectErased,
                ids=self.ids,
                generations=len(self.subjects),
                objects=len(self.objects),
            )


Subject = tuple[UUID, bytes]
"""A point of a generation: its stream, and the key of the point."""


@dataclass(frozen=True)
class Holding:
    """What a generation has and had of a point.

    Attributes:
        generation: its stream.
        key: of the point.
        there: whether it has it now.
        bodies: address and row of everything that the point is or was there.
        deleted: addresses of those bodies whose objects retention has deleted.
    """

    generation: UUID
    key: bytes
    there: bool
    bodies: frozenset[tuple[str, int]]
    deleted: frozenset[str] = frozenset()

    @property
    def objects(self) -> set[str]:
        """Addresses of those bodies that are there."""
        return {address for address, _ in self.bodies} - self.deleted

    @property
    def subject(self) -> Subject:
        """Which point of which generation."""
        return self.generation, self.key


def together(holdings: Iterable[Holding], subjects: Collection[Subject]) -> list[Holding]:
    """These points, and the same ones wherever they were copied to.

    A copy refers to the same row of the same body. What a copy became since is that point, too.
    """
    left = {holding.subject: holding for holding in holdings}
    found = [left.pop(subject) for subject in subjects if subject in left]
    rows = {row for holding in found for row in holding.bodies}
    while more := [holding for holding in left.values() if holding.bodies & rows]:
        for holding in more:
            del left[holding.subject]
            rows |= holding.bodies
        found += more
    return found


def present(objects: dict[str, str], address: str) -> str:
    """Where what had an address is now: what was rewritten may have been rewritten again."""
    while address in objects:
        address = objects[address]
    return address
