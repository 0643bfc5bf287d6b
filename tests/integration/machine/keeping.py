"""What is kept of points, and for how long: erasures, packs, retention and sweeps."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

from domain.model.retention import Retention
from domain.use_cases.pack import pack
from domain.use_cases.retain import archive_versions
from domain.use_cases.retention import decide_retention
from domain.use_cases.sweep import sweep
from domain.use_cases.tools import Tools
from tests.integration.erasures import ART_17, erasing, find, finish_all
from tests.integration.machine import checks
from tests.integration.machine.crossing import Boundary, Course
from tests.integration.machine.model import Collection, Id
from tests.integration.machine.shared import Shared
from tests.integration.retaining import keep_since_now
from tests.integration.worlds import MARA, STORE


class Keeping(Shared):
    """What operators do about what is kept."""

    async def erase(
        self, collections: Sequence[Collection], ids: Sequence[Id], course: Course
    ) -> None:
        """Points are erased from some collections, whatever these were called."""
        names = sorted({name for collection in collections for name in collection.names})
        head = await self.world.ledger.head()

        async def attempt(tools: Tools) -> None:
            work = erasing(self.world, tools)
            async with work.alone(uuid4().hex):
                await finish_all(self.world, tools)
                for part in (await find(self.world, ids, *names)).parts():
                    begun = await work.begin(part, ART_17)
                    await work.finish(begun.number)

        collection = collections[0]
        boundary, other = self.on_the_way(collection, course)
        await self.session.carried(attempt, boundary, **self.how(course))
        position = await other.recorded()
        erased_at = await self._erased_at(collection, other.to, head.position)
        if 0 < position < erased_at:  # it goes, too
            collection.write({other.to: other.point})
        self.model.erase(collections, ids)
        if position > erased_at:
            collection.write({other.to: other.point})
        await checks.check_erased(self.session, self.model)

    async def pack(self, collection: Collection, course: Course) -> None:
        """The points of a collection lie together from here on, and are what they were."""

        async def attempt(tools: Tools) -> None:
            await pack(tools, await self.session.status(collection.name), MARA)

        boundary, other = self.on_the_way(collection, course)
        await self.session.carried(attempt, boundary, **self.how(course))
        await self.count(collection, other)

    async def sweep(self, grace: timedelta, course: Course) -> None:
        """Bodies go that nobody needs; what is condemned may be written again within a grace."""

        async def attempt(tools: Tools) -> None:
            await sweep(tools, self.world.garbage, grace, MARA)

        await self.session.carried(attempt, Boundary(course.events()), **self.how(course))

    async def retain(self, collection: Collection, course: Course) -> None:
        """Of a collection, what it is now and versions with labels are kept, and no others."""
        name = collection.name

        async def attempt(tools: Tools) -> None:
            await keep_since_now(self.world, name)
            await archive_versions(tools, MARA)
            await decide_retention(tools, STORE, name, MARA, Retention.remove_policy)

        await self.session.carried(attempt, Boundary(course.events()), **self.how(course))
        self.model.archive(collection)

    async def _erased_at(self, collection: Collection, one: Id, after: int) -> int:
        """The position at which a point was erased last since a position; 0 if it was not."""
        known = await self.world.tools.applications.generations()
        own = {str(status.generation) for status in known if status.collection in collection.names}
        return max(
            (
                recorded.position
                for recorded in await self.world.events("erasure.begun")
                for generation, ids in vars(recorded.event)["subjects"].items()
                if recorded.position > after and generation in own and one in ids
            ),
            default=0,
        )
