"""What all operations have: a session, a model, and how something else happens on their way."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from domain.model.points import key_of
from tests.integration.machine import model
from tests.integration.machine.crossing import Boundary, Course
from tests.integration.machine.model import IDS, Collection, Model, Point
from tests.integration.machine.session import Session
from tests.integration.machine.writing import Meanwhile
from tests.integration.worlds import World


@dataclass
class Shared:
    """What operations work with.

    Attributes:
        session: where they do it.
        model: what should come of it.
        numbers: that were not used yet.
    """

    session: Session
    model: Model
    numbers: Iterator[int]

    @property
    def world(self) -> World:
        """That of the session."""
        return self.session.world

    def number(self) -> int:
        """One that nobody has."""
        return next(self.numbers)

    def point(self) -> Point:
        """One that nobody has written."""
        return model.point(self.number())

    def how(self, course: Course) -> dict[str, Any]:
        """Who dies, and in which order changes come."""
        return {
            "order": course.order,
            "together": course.together and not self.model.strayed,
        }

    def on_the_way(
        self, collection: Collection, course: Course, *names: str
    ) -> tuple[Boundary, Meanwhile]:
        """What happens on the way of an operation, to a collection that may get another name."""
        some = sorted(collection.strays, key=key_of) or IDS
        tried = list(dict.fromkeys([collection.name, *names]))
        other = Meanwhile(self.session, tried, some[course.to % len(some)], self.point())
        events = course.events()
        if course.writes is not None:
            events[course.writes] = other
        return Boundary(events), other

    async def count(self, collection: Collection, other: Meanwhile) -> None:
        """What was written on the way counts."""
        if await other.recorded():
            collection.write({other.to: other.point})
