"""What applications write, and how that goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4

from domain.model.errors import Conflict, KeyReused, NotFound, Rejected
from domain.model.points import key_of
from domain.use_cases.write_points import Delete, SetPayload, Upsert, Write, open_live
from tests.integration.faults import Crash
from tests.integration.machine import model
from tests.integration.machine.crossing import Boundary, Crossing, crash, raising
from tests.integration.machine.model import Collection, Id, Point
from tests.integration.machine.session import Session
from tests.integration.worlds import MARA, STORE


class Kind(StrEnum):
    """What is written."""

    UPSERT = "upsert"
    REPEAT = "upsert, and of the first point what it was last"
    DELETE = "delete"
    SET_PAYLOAD = "set payload"


class Fate(StrEnum):
    """How it goes: who writes dies before or after the commit, sends the write again, uses its key
    for another one, or is overtaken by somebody who writes to the same point.
    """

    PLAIN = "plain"
    BEFORE = "before"
    AFTER = "after"
    AGAIN = "again"
    REUSED = "reused"
    OVERTAKEN = "overtaken"


@dataclass(frozen=True)
class Wish:
    """What an application wants to write.

    Attributes:
        kind: of the write.
        ids: points that it names.
        fate: how it goes.
    """

    kind: Kind
    ids: Sequence[Id]
    fate: Fate


@dataclass
class Meanwhile:
    """An application that writes one point while something else goes on.

    Attributes:
        session: where.
        names: that the collection may have, in the order in which they are tried.
        to: id of the point.
        point: as it is written.
        key: of the write, of each name.
    """

    session: Session
    names: Sequence[str]
    to: Id
    point: Point
    key: str = field(default_factory=lambda: str(uuid4()))

    async def __call__(self) -> None:
        """Write, unless the collection takes no writes just now."""
        write = Upsert(model.batch({self.to: self.point}))
        for name in self.names:
            try:
                live = await open_live(self.session.world.tools, STORE, name)
                await live.write(write, f"{self.key}/{name}", MARA)
            except (Conflict, Rejected):
                continue
            return

    async def recorded(self) -> int:
        """The position of the write; 0 if it was not recorded."""
        for name in self.names:
            answer = await self.session.world.ledger.answer(f"{self.key}/{name}")
            if answer is not None:
                return answer.position
        return 0


@dataclass
class Writer:
    """An application that writes to a collection.

    Attributes:
        session: where.
        collection: what should be of it.
    """

    session: Session
    collection: Collection

    async def write(self, wish: Wish, points: Sequence[Point]) -> int:
        """Write as is wished, and expect that it counts once; the position, 0 if it is refused.

        Args:
            wish: what is written.
            points: that nobody has written yet: one for each id, and one more.
        """
        new = dict(zip(wish.ids, points, strict=False))
        other = points[-1]
        if wish.kind in {Kind.UPSERT, Kind.REPEAT}:
            if wish.kind is Kind.REPEAT:
                first = wish.ids[0]
                new[first] = self.collection.told.get(first, [new[first]])[-1]
            return await self._once(
                wish, Upsert(model.batch(new)), new, Upsert(model.batch({wish.ids[0]: other}))
            )
        if wish.kind is Kind.DELETE:
            keys = [key_of(one) for one in wish.ids]
            gone: dict[Id, Point | None] = dict.fromkeys(wish.ids)
            return await self._once(wish, Delete(keys), gone, Delete([*keys, key_of(99)]))
        return await self._set_payload(wish, other)

    async def _set_payload(self, wish: Wish, other: Point) -> int:
        there = [one for one in wish.ids if one in self.collection.points]
        wanted = wish.ids if wish.fate is Fate.PLAIN else there or wish.ids
        fields = {f"f{other.payload['n'] % 3}": other.payload["n"]}
        write = SetPayload({key_of(one): fields for one in wanted})
        if wanted != there:
            live = await open_live(self.session.world.tools, STORE, self.collection.name)
            with raising(NotFound, "write"):
                await live.write(write, str(uuid4()), MARA)
            return 0
        if wish.fate is Fate.OVERTAKEN:
            return await self._overtaken(write, there, fields, other)
        changed = {one: self.collection.points[one].with_fields(fields) for one in there}
        more = SetPayload({key_of(one): {**fields, "more": True} for one in there})
        return await self._once(wish, write, changed, more)

    async def _overtaken(
        self, write: Write, ids: Sequence[Id], fields: Mapping[str, int], first: Point
    ) -> int:
        """Write, and let somebody else write right before that is recorded."""
        other = Meanwhile(self.session, [self.collection.name], ids[0], first)
        boundary = Boundary({Crossing(1, committed=False): other})
        tools = boundary.tools(self.session.world.tools)
        live = await open_live(tools, STORE, self.collection.name)
        done = await live.write(write, str(uuid4()), MARA)
        assert await other.recorded(), "write: refused"
        self.collection.write({ids[0]: first})
        self.collection.write({one: self.collection.points[one].with_fields(fields) for one in ids})
        return done.position

    async def _once(
        self, wish: Wish, write: Write, changes: Mapping[Id, Point | None], other: Write
    ) -> int:
        """Write, maybe again, or another write with the same key."""
        key, tools, name = str(uuid4()), self.session.world.tools, self.collection.name
        if wish.fate in {Fate.BEFORE, Fate.AFTER}:
            at = Crossing(1, committed=wish.fate is Fate.AFTER)
            dying = await open_live(Boundary({at: crash}).tools(tools), STORE, name)
            with raising(Crash, "write"):
                await dying.write(write, key, MARA)
        recorded = await tools.ledger.answer(key) is not None
        live = await open_live(tools, STORE, name)
        done = await live.write(write, key, MARA)
        assert done.repeated == recorded, "write: repeated"
        self.collection.write(changes)
        if wish.fate is Fate.AGAIN:
            again = await live.write(write, key, MARA)
            assert (again.position, again.repeated) == (done.position, True), "write: again"
        elif wish.fate is Fate.REUSED:
            with raising(KeyReused, "write"):
                await live.write(other, key, MARA)
        return done.position
