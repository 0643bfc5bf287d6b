"""Every operation, on the product and on the model alike."""

from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from adapters.postgres.head_history import complete_pasts
from domain.model.aggregate import pending_events
from domain.model.errors import InvalidSpec, VersionConflict, WritesHeld
from domain.model.generation import Generation
from domain.model.points import key_of
from domain.model.recorded import Command
from domain.use_cases.names import physical_name
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.project import rebuild
from domain.use_cases.repair import repair
from domain.use_cases.tools import Tools, save
from domain.use_cases.versions import tag_version
from domain.use_cases.write_points import Delete, open_live
from projections import PROJECTIONS
from tests.databases import execute
from tests.integration.builders import DOCS
from tests.integration.machine import checks, model
from tests.integration.machine.crossing import Boundary, Course, raising
from tests.integration.machine.model import IDS, Collection, Done, Id, Model, Moment
from tests.integration.machine.session import Session
from tests.integration.machine.shared import Shared
from tests.integration.machine.writing import Wish, Writer
from tests.integration.worlds import MARA, STORE

_WITHOUT_PAST = "UPDATE migration_ledger.generations SET has_past = false"


class Operations(Shared):
    """What applications, operators and others do.

    Attributes:
        began: whether there are collections.
    """

    def __init__(self, session: Session) -> None:
        named = session.world.named
        docs = Collection(named("docs"), ours=False, known=False)
        notes = Collection(named("notes"), ours=True, known=False)
        super().__init__(session, Model([docs, notes]), count(1))
        self.began = False

    async def begin(self) -> None:
        """One collection is the application's own, the other was made by the ledger."""
        docs, notes = self.model.collections
        docs.points = {one: self.point() for one in IDS[2:10]}
        await self.world.share(docs.name, DOCS, model.batch(docs.points))
        made = Generation(notes.name, STORE, notes.name, 1, DOCS.to_json(), "created")
        await save(self.world.ledger, made, "notes", MARA)
        notes.look_after(notes.name)
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
            position = await writer.write(wish, [self.point() for _ in range(len(wish.ids) + 1)])
            if position:
                self.model.note(collection, str(position))

    async def append(self, collection: Collection) -> None:
        """Two operators decide at once: the first one counts. Writes wait for what he decided."""
        ledger = self.world.ledger
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
        live = await open_live(self.world.tools, STORE, collection.name)
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
        points = {one: self.point() for one in ids}
        if gone:
            await self.world.store.delete(collection.name, [key_of(one) for one in ids])
        else:
            await self.world.store.upsert(collection.name, model.batch(points))
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
        physical = await physical_name(self.world.tools, STORE, collection.name)
        spec = self._spec("adopt-collections", store=STORE, collections=[physical])
        boundary, other = self.on_the_way(collection, course)
        await self.session.migrate(spec, boundary, **self.how(course))
        collection.take_in()
        await self.count(collection, other)

    async def repair(self, collection: Collection, course: Course, *, keep: bool | None) -> None:
        """The store becomes what the ledger says again."""
        status = await self.session.status(collection.name)

        async def attempt(tools: Tools) -> None:
            await repair(tools, status, MARA, keep_extra=keep)

        boundary, other = self.on_the_way(collection, course)
        await self.session.carried(attempt, boundary, order=course.order)
        await self.session.settle()
        collection.repair(keep_extra=not collection.ours if keep is None else keep)
        await self.count(collection, other)

    async def tag(self, collection: Collection) -> None:
        """A version gets a label."""
        label = f"label {self.number()}"
        await tag_version(self.world.tools, STORE, collection.name, label, None, MARA)
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
        boundary, other = self.on_the_way(collection, course)
        migration = await self.session.migrate(spec, boundary, **self.how(course))
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
            new = {"name": self.world.named(f"name{self.number()}")}
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
        physical = await physical_name(self.world.tools, STORE, collection.name)
        name = to.get("name", collection.name)
        boundary, other = self.on_the_way(collection, course, name)
        migration = await self.session.migrate(spec, boundary, **self.how(course))
        done = self._done(collection, spec, migration.id)
        done.replaced = "replace" in to
        done.warm = physical if spec["warm_for"] != "0s" else ""
        collection.done.append(done)
        collection.look_after(name)
        collection.ours = True
        await self.count(collection, other)

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
        boundary, other = self.on_the_way(collection, course, last.name)
        await self.session.roll_back(last.migration, boundary, **self.how(course))
        await self.count(collection, other)
        collection.roll_back()

    async def rebuild(self, moment: Moment, course: Course) -> None:
        """A version becomes a collection of its own, which is then given up."""
        into = self.world.named(f"rebuilt{self.number()}")
        spec = self._spec(
            "rebuild-version",
            **{"from": {"store": STORE, "collection": moment.name, "at": moment.at}},
            to={"store": STORE, "collection": into},
            batch={"size": 3},
        )
        if moment.erased:
            with raising(InvalidSpec, "rebuild"):
                await plan_migration(self.world.tools, spec, MARA)
            spec["without_erased"] = True
        done = await self.session.migrate(spec, Boundary(course.events()), **self.how(course))
        found = model.rows(await self.world.points(into))
        checks.same("rebuild", found, model.rows_of(moment.points), moment.at)
        await self.session.roll_back(done.id, Boundary({}))

    async def make_anew(self) -> None:
        """What is derived from events is lost, and made again: heads and read models."""
        await execute(self.world.url, _WITHOUT_PAST)
        await complete_pasts(self.session.database)
        await rebuild(self.world.ledger, self.world.views, *PROJECTIONS)
        for moment in self.model.moments[-3:]:
            await checks.check_moment(self.session, moment)

    # What migrations share.

    def _spec(self, recipe: str, **more: Any) -> dict[str, Any]:
        name = f"{recipe} {self.number()}"
        return {"version": 1, "name": name, "recipe": recipe, "reason": "OPS-7", **more}

    def _done(self, collection: Collection, spec: dict[str, Any], migration: UUID) -> Done:
        return Done(spec, migration, collection.name, collection.ours, collection.known)

    async def _first_held(self, migration: UUID) -> int:
        """Where a migration held writes first."""
        held = await self.world.events("generation.writes-held")
        return next(one.position for one in held if vars(one.event)["migration"] == str(migration))
