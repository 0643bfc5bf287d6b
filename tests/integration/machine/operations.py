"""Every operation, on the product and on the model alike."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from adapters.postgres.head_history import complete_pasts
from domain.model.aggregate import pending_events
from domain.model.errors import VersionConflict, WritesHeld
from domain.model.generation import Generation
from domain.model.points import key_of
from domain.model.recorded import Command
from domain.use_cases.project import rebuild
from domain.use_cases.repair import repair
from domain.use_cases.tools import Tools, physical_name, save
from domain.use_cases.versions import tag_version
from domain.use_cases.write_points import Delete, open_live
from projections import PROJECTIONS
from tests.databases import execute
from tests.integration.builders import DOCS
from tests.integration.machine import checks, model
from tests.integration.machine.crossing import Boundary, Course, raising
from tests.integration.machine.model import IDS, Collection, Done, Id, Model, Moment, Point
from tests.integration.machine.session import Session
from tests.integration.machine.writing import Meanwhile, Wish, Writer
from tests.integration.worlds import MARA, STORE

_WITHOUT_PAST = "UPDATE migration_ledger.generations SET has_past = false"


class Operations:
    """What applications, operators and others do.

    Attributes:
        session: where they do it.
        model: what should come of it.
        began: whether there are collections.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._world = session.world
        named = self._world.named
        docs = Collection(named("docs"), ours=False, known=False)
        notes = Collection(named("notes"), ours=True, known=True)
        self.model = Model([docs, notes])
        self.began = False
        self._numbers = 0

    async def begin(self) -> None:
        """One collection is the application's own, the other was made by the ledger."""
        docs, notes = self.model.collections
        docs.points = {one: self._point() for one in IDS[2:10]}
        await self._world.share(docs.name, DOCS, model.batch(docs.points))
        made = Generation(notes.name, STORE, notes.name, 1, DOCS.to_json(), "created")
        await save(self._world.ledger, made, "notes", MARA)
        await self.session.settle()
        self.began = True

    async def end(self) -> None:
        """Workers do everything, and everything is looked at."""
        await self.session.settle()
        await checks.check_end(self.session, self.model)

    # Applications.

    async def write(self, collection: Collection, wishes: Sequence[Wish]) -> None:
        """An application writes, through the ledger."""
        writer = Writer(self.session, collection)
        for wish in wishes:
            position = await writer.write(wish, [self._point() for _ in range(len(wish.ids) + 1)])
            if position:
                self.model.note(collection, str(position))

    async def append(self, collection: Collection) -> None:
        """Two operators decide at once: the first one counts. Writes wait for what he decided."""
        ledger = self._world.ledger
        stream = (await self.session.status(collection.name)).generation
        first, second = [await ledger.load(Generation, stream) for _ in range(2)]
        assert first is not None
        assert second is not None
        first.hold_writes("an operator")
        second.hold_writes("another operator")
        held = Command(str(uuid4()), pending_events(first), MARA)
        answer = await ledger.append(held)
        with raising(VersionConflict, "append"):
            await ledger.append(Command(str(uuid4()), pending_events(second), MARA))
        assert (await ledger.append(held)).position == answer.position, "append: again"
        live = await open_live(self._world.tools, STORE, collection.name)
        with raising(WritesHeld, "append"):
            await live.write(Delete([key_of(1)]), str(uuid4()), MARA)
        again = await ledger.load(Generation, stream)
        assert again is not None
        again.resume_writes("an operator")
        await save(ledger, again, str(uuid4()), MARA)

    # Others.

    async def stray(self, collection: Collection, ids: Sequence[Id], *, gone: bool) -> None:
        """Somebody writes to the store, past the ledger.

        Before that, the next applier looks at what one that died may have written late: it would
        put right what is written here, and what differs is to be known exactly.
        """
        await self.session.settle()
        if collection.known:
            status = await self.session.status(collection.name)
            while not await self.session.released(status.generation):
                await self.append(collection)
                await self.session.settle()
        points = {one: self._point() for one in ids}
        if gone:
            await self._world.store.delete(collection.name, [key_of(one) for one in ids])
        else:
            await self._world.store.upsert(collection.name, model.batch(points))
        for one in ids:
            collection.stray(one, None if gone else points[one])

    # Workers.

    async def apply(self, course: Course) -> None:
        """Changes are delivered, in any order, some again, some never; the applier may die."""
        boundary = Boundary({} if self.model.strayed else course.events())
        together = not self.model.strayed
        await self.session.settle(boundary, order=course.order, together=together)

    # Operators.

    async def adopt(self, collection: Collection, course: Course) -> None:
        """What a store has counts from here on, whether the ledger looks after it or not."""
        physical = await physical_name(self._world.tools.stores, STORE, collection.name)
        spec = self._spec("adopt-collections", store=STORE, collections=[physical])
        boundary, other = self._on_the_way(collection, course)
        await self.session.migrate(spec, boundary, **self._how(course))
        collection.take_in()
        await self._count(collection, other)

    async def repair(self, collection: Collection, course: Course, *, keep: bool | None) -> None:
        """The store becomes what the ledger says again."""
        status = await self.session.status(collection.name)

        async def attempt(tools: Tools) -> None:
            await repair(tools, status, MARA, keep_extra=keep)

        boundary, other = self._on_the_way(collection, course)
        await self.session.carried(attempt, boundary, order=course.order)
        await self.session.settle()
        collection.repair(keep_extra=not collection.ours if keep is None else keep)
        await self._count(collection, other)

    async def tag(self, collection: Collection) -> None:
        """A version gets a label."""
        label = f"label {self._number()}"
        await tag_version(self._world.tools, STORE, collection.name, label, None, MARA)
        self.model.note(collection, label, labelled=True)

    async def restore(self, collection: Collection, moment: Moment, course: Course) -> None:
        """A collection becomes one of its versions; what was written since goes."""
        spec = self._spec(
            "restore-version",
            store=STORE,
            collection=collection.name,
            to=moment.at,
            later_writes="discard",
            batch={"size": 1},
        )
        collection.undone.clear()
        await self._restore(collection, spec, moment, course)

    async def _restore(
        self, collection: Collection, spec: dict[str, Any], moment: Moment, course: Course
    ) -> None:
        boundary, other = self._on_the_way(collection, course)
        migration = await self.session.migrate(spec, boundary, **self._how(course))
        position = await other.recorded()
        if 0 < position < await self._first_held(migration.id):  # it goes, too
            collection.write({other.to: other.point})
            position = 0
        done = self._done(collection, spec, migration.id)
        done.before = dict(collection.points)
        collection.points = dict(moment.points)
        collection.done.append(done)
        if position:
            collection.write({other.to: other.point})

    async def migrate(self, collection: Collection, way: str, batch: int, course: Course) -> None:
        """A collection gets another generation.

        Args:
            collection: which.
            way: that its clients go if they use a physical name: ``replace`` it by an alias, or
                take a new ``name``, maybe with the old one kept ``warm``.
            batch: points of a change set.
            course: how it goes.
        """
        to: dict[str, Any] = {}
        if not collection.copies:
            new = {"name": self._world.named(f"name{self._number()}")}
            to = {"to": {"replace": True} if way == "replace" else new}
        spec = self._spec(
            "new-generation",
            **{"from": {"store": STORE, "collection": collection.name}},
            **to,
            batch={"size": batch},
            warm_for="7d" if way == "warm" else "0s",
        )
        collection.undone.clear()
        await self._migrate(collection, spec, course)

    async def _migrate(self, collection: Collection, spec: dict[str, Any], course: Course) -> None:
        to = spec.get("to", {})
        physical = await physical_name(self._world.tools.stores, STORE, collection.name)
        name = to.get("name", collection.name)
        boundary, other = self._on_the_way(collection, course, name)
        migration = await self.session.migrate(spec, boundary, **self._how(course))
        done = self._done(collection, spec, migration.id)
        done.replaced = "replace" in to
        done.warm = physical if spec["warm_for"] != "0s" else ""
        collection.done.append(done)
        collection.name, collection.known, collection.ours = name, True, True
        await self._count(collection, other)

    async def roll_forward(self, collection: Collection, course: Course) -> None:
        """What was undone is done again, by the same spec."""
        spec = collection.undone.pop()
        if spec["recipe"] == "new-generation":
            await self._migrate(collection, spec, course)
            return
        moments = self.model.moments_of(collection)
        to = next(moment for moment in moments if moment.at == spec["to"])
        await self._restore(collection, spec, to, course)

    async def roll_back(self, collection: Collection, course: Course) -> None:
        """The last migration of a collection is undone."""
        last = collection.done[-1]
        boundary, other = self._on_the_way(collection, course, last.name)
        await self.session.roll_back(last.migration, boundary, **self._how(course))
        await self._count(collection, other)
        collection.roll_back()

    async def rebuild(self, moment: Moment, course: Course) -> None:
        """A version becomes a collection of its own, which is then given up."""
        into = self._world.named(f"rebuilt{self._number()}")
        spec = self._spec(
            "rebuild-version",
            **{"from": {"store": STORE, "collection": moment.name, "at": moment.at}},
            to={"store": STORE, "collection": into},
            batch={"size": 3},
        )
        done = await self.session.migrate(spec, Boundary(course.events()), **self._how(course))
        found = model.rows(await self._world.points(into))
        checks.same("rebuild", found, model.rows_of(moment.points), moment.at)
        await self.session.roll_back(done.id, Boundary({}))

    async def make_anew(self) -> None:
        """What is derived from events is lost, and made again: heads and read models."""
        await execute(self._world.url, _WITHOUT_PAST)
        await complete_pasts(self.session.database)
        await rebuild(self._world.ledger, self._world.views, *PROJECTIONS)
        for moment in self.model.moments[-3:]:
            await checks.check_moment(self.session, moment)

    # What they share.

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _point(self) -> Point:
        return model.point(self._number())

    def _spec(self, recipe: str, **more: Any) -> dict[str, Any]:
        name = f"{recipe} {self._number()}"
        return {"version": 1, "name": name, "recipe": recipe, "reason": "OPS-7", **more}

    def _done(self, collection: Collection, spec: dict[str, Any], migration: UUID) -> Done:
        return Done(spec, migration, collection.name, collection.ours, collection.known)

    def _how(self, course: Course) -> dict[str, Any]:
        """Who dies, and in which order changes come."""
        return {
            "order": course.order,
            "together": course.together and not self.model.strayed,
        }

    def _on_the_way(
        self, collection: Collection, course: Course, *names: str
    ) -> tuple[Boundary, Meanwhile]:
        """What happens on the way of an operation, to a collection that may get another name."""
        some = sorted(collection.strays, key=key_of) or IDS
        tried = list(dict.fromkeys([collection.name, *names]))
        other = Meanwhile(self.session, tried, some[course.to % len(some)], self._point())
        events = course.events()
        if course.writes is not None:
            events[course.writes] = other
        return Boundary(events), other

    async def _count(self, collection: Collection, other: Meanwhile) -> None:
        """What was written on the way counts."""
        if await other.recorded():
            collection.write({other.to: other.point})

    async def _first_held(self, migration: UUID) -> int:
        """Where a migration held writes first."""
        held = await self._world.events("generation.writes-held")
        return next(one.position for one in held if vars(one.event)["migration"] == str(migration))
