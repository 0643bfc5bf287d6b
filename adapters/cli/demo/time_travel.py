"""Go back in time: drift is found and repaired, a lost store rebuilt, and a changed byte named."""

import asyncio
from typing import Any

import asyncpg

from adapters.bootstrap import DEFAULT, Service
from adapters.cli.demo.knowledge_base import KnowledgeBase
from adapters.cli.demo.sources import DOCUMENTS
from adapters.cli.demo.telling import QUESTION, Teller
from adapters.cli.following import follow
from adapters.cli.stack import Stack
from adapters.embedders.lsa import LsaModel
from adapters.postgres.chain import Altered, walk_chain
from adapters.postgres.connection import SCHEMA
from domain.model.migration import State
from domain.model.points import PointBatch, decode_payload, id_of
from domain.model.recorded import Cursor
from domain.ports import Hit
from domain.use_cases.diff_versions import VersionDiff, diff_versions
from domain.use_cases.repair import repair
from domain.use_cases.search_collections import search_collections
from domain.use_cases.search_versions import search_versions
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.verify import Verification, looked_after, verify_and_record
from domain.use_cases.versions import find_version, tag_version
from domain.use_cases.wait_applied import wait_applied
from domain.use_cases.write_points import Delete, SetPayload, Write, Written, open_live

LABEL = "before the clean-up"
REVIEWED = 200
REBUILT = "docs_as_they_were"
TEXT_SHOWN = 60


class TimeTravel:
    """The stages, and what they claim."""

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.cli = teller.cli
        self.held = teller.held
        self._name = ""
        self._vector: list[float] = []

    def further(self, where: str) -> list[str]:  # noqa: ARG002
        """What to look at afterwards."""
        return [
            f"version list {self._name}",
            f"version diff {self._name} '{LABEL}'",
            "log events --topic verification.",
        ]

    async def tell(self, stack: Stack, service: Service) -> None:  # noqa: ARG002
        """Run all stages."""
        await self.teller.show_servers()
        knowledge = await self.teller.load(service)
        self._name = knowledge.collections[DOCUMENTS]
        model = await asyncio.to_thread(LsaModel.load, knowledge.models[DOCUMENTS])
        self._vector = model.embed([QUESTION])[0].tolist()
        await self._adopt(service)
        best = await self._clean_up(service)
        await self._search(service, best)
        await self._drift(service, knowledge)
        await self._rebuild(service)
        await self._restore(service)
        await self._edit(service)

    async def _adopt(self, service: Service) -> None:
        self.teller.stage(f"Adopt {self._name}: from here on the ledger knows every point")
        await self.teller.migrate(
            service,
            {
                "version": 1,
                "name": "adopt",
                "recipe": "adopt-collections",
                "reason": "to be able to go back",
                "store": DEFAULT,
                "collections": [self._name],
            },
        )
        context = self.cli.context("before anybody cleans up")
        version = await tag_version(service.tools, DEFAULT, self._name, LABEL, None, context)
        self.teller.say(
            f"{LABEL!r} is position {version.position}: {version.points:,} points, "
            f"digest {version.digest}"
        )

    async def _clean_up(self, service: Service) -> list[Hit]:
        """Write through the ledger, as an application does; returns what is deleted by it."""
        self.teller.stage(f"An application cleans up: it deletes the best answers to {QUESTION!r}")
        best = await search_collections(service.stores.store(DEFAULT), [self._name], self._vector)
        await self._write(service, Delete([hit.key for hit in best]), "delete")
        keys = await self._some(service)
        reviewed = SetPayload({key: {"reviewed": True} for key in keys})
        await self._write(service, reviewed, "review")
        diff = VersionDiff()
        before = await find_version(service.tools, DEFAULT, self._name, LABEL)
        now = await find_version(service.tools, DEFAULT, self._name, None)
        async for _ in diff_versions(service.tools, before, now, diff):
            pass
        self.teller.say(
            f"since {LABEL!r}: {diff.removed} removed, {diff.changed} changed, {diff.added} added"
        )
        self.held["what an application wrote is what differs from the version"] = (
            diff.removed,
            diff.changed,
            diff.added,
        ) == (len(best), REVIEWED, 0)
        return best

    async def _some(self, service: Service) -> list[bytes]:
        """Keys of the first points."""
        status = await looked_after(service.tools, DEFAULT, self._name)
        return (await service.ledger.heads(status.generation, limit=REVIEWED)).keys

    async def _write(self, service: Service, write: Write, key: str) -> Written:
        live = await open_live(service.tools, DEFAULT, self._name)
        written = await live.write(write, key, self.cli.context("clean-up"))
        await self._applied(service, written.through)
        return written

    async def _applied(self, service: Service, through: int) -> None:
        status = await looked_after(service.tools, DEFAULT, self._name)
        await wait_applied(service.tools, status.generation, through)

    async def _search(self, service: Service, best: list[Hit]) -> None:
        self.teller.stage("Search now, and as it was")
        now = await search_collections(service.stores.store(DEFAULT), [self._name], self._vector)
        place = await find_version(service.tools, DEFAULT, self._name, LABEL)
        then = await search_versions(service.tools, [place], self._vector)
        for title, hits in (("now", now), (LABEL, then)):
            text = " ".join(str(decode_payload(hits[0].payload)["text"]).split())[:TEXT_SHOWN]
            self.teller.say(f"{title:<20}  {hits[0].score:.3f}  {text}")
        self.held["a search in the past finds what was deleted since"] = {
            hit.key for hit in then
        } == {hit.key for hit in best} and not {h.key for h in now} & {h.key for h in best}

    async def _drift(self, service: Service, knowledge: KnowledgeBase) -> None:
        self.teller.stage("One bit of one vector is flipped in Qdrant, behind the ledger's back")
        store = service.stores.store(DEFAULT)
        (key,) = (await self._some(service))[REVIEWED // 2 : REVIEWED // 2 + 1]
        point = await store.retrieve(self._name, [key])
        await store.upsert(self._name, _with_a_bit_flipped(point))
        found = await self._verify(service)
        total = knowledge.points[DOCUMENTS]
        self.held[
            f"one bit among the vectors of {total:,} points is found, and the point named"
        ] = found.examples == {"changed": [id_of(key)]}
        status = await looked_after(service.tools, DEFAULT, self._name)
        done = await repair(service.tools, status, self.cli.context("somebody flipped a bit"))
        await self._applied(service, done.through)
        self.teller.say(f"repaired: {done.points} point was written again")
        equal = (await self._verify(service)).equal
        self.held["the repair writes that point and no other"] = equal and done.points == 1

    async def _verify(self, service: Service) -> Verification:
        status = await looked_after(service.tools, DEFAULT, self._name)
        found = await verify_and_record(service.tools, status, self.cli.context("demo"))
        self.teller.say(f"{'equal' if found.equal else 'different'}  {found}")
        return found

    async def _rebuild(self, service: Service) -> None:
        self.teller.stage(f"Qdrant loses {self._name}, and the version is rebuilt beside it")
        await service.stores.store(DEFAULT).drop(self._name)
        await self.teller.migrate(
            service,
            {
                "version": 1,
                "name": "rebuild",
                "recipe": "rebuild-version",
                "reason": "the collection is lost",
                "from": {"store": DEFAULT, "collection": self._name, "at": LABEL},
                "to": {"store": DEFAULT, "collection": REBUILT},
            },
        )
        rebuilt = (await self.teller.digests(service, [f"{REBUILT}__g1"]))[f"{REBUILT}__g1"]
        noted = await self._noted(service)
        self.teller.say(f"digest that was noted  {noted}")
        self.teller.say(f"digest in the store    {rebuilt}")
        self.held["a version is rebuilt from the ledger alone, bit for bit"] = rebuilt == noted
        status = await looked_after(service.tools, DEFAULT, self._name)
        done = await repair(service.tools, status, self.cli.context("the collection is lost"))
        await self._applied(service, done.through)
        self.held["the lost collection is back as it was recorded last"] = (
            await self._verify(service)
        ).equal

    async def _noted(self, service: Service) -> str:
        context = self.cli.context("demo")
        version = await tag_version(service.tools, DEFAULT, self._name, LABEL, LABEL, context)
        return version.digest

    async def _restore(self, service: Service) -> None:
        self.teller.stage(f"The collection itself goes back to {LABEL!r}, and forth again")
        before = (await self.teller.digests(service, [self._name]))[self._name]
        migration = await self.teller.migrate(
            service,
            {
                "version": 1,
                "name": "restore",
                "recipe": "restore-version",
                "reason": "the clean-up was a mistake",
                "store": DEFAULT,
                "collection": self._name,
                "to": LABEL,
                "later_writes": "discard",
            },
        )
        restored = (await self.teller.digests(service, [self._name]))[self._name]
        self.held["a restore makes the collection exactly the version"] = (
            restored == await self._noted(service)
        )
        context = self.cli.context("it was none")
        asked = await roll_back_migration(service.tools, migration.id, context)
        await follow(self.cli, service, asked, log=None, wanted=State.ROLLED_BACK)
        after = (await self.teller.digests(service, [self._name]))[self._name]
        self.held["and its rollback brings the clean-up back"] = after == before

    async def _edit(self, service: Service) -> None:
        self.teller.stage("The owner of the database edits one byte of the ledger")
        place = await find_version(service.tools, DEFAULT, self._name, LABEL)
        await _flip_a_byte(service, place.position)
        named = await _altered(service)
        self.teller.say(str(named) if named else "nothing was noticed")
        self.held[f"the change of event {place.position} is found, and named"] = (
            named is not None and named.position == place.position
        )
        await _flip_a_byte(service, place.position)
        self.held["put back, the ledger is what was recorded"] = await _altered(service) is None


def _with_a_bit_flipped(point: PointBatch) -> PointBatch:
    (name,) = point.vectors
    vector = bytearray(point.vectors[name][0] or b"")
    vector[0] ^= 1
    return PointBatch(point.keys, point.payloads, {name: [bytes(vector)]})


async def _flip_a_byte(service: Service, position: int) -> None:
    """What only somebody can do who owns the database: the guards are switched off for it."""
    connection: Any = await asyncpg.connect(
        service.settings.database_url, server_settings={"search_path": SCHEMA}
    )
    try:
        async with connection.transaction():
            await connection.execute("ALTER TABLE events DISABLE TRIGGER events_are_for_ever")
            await connection.execute(
                "UPDATE events SET state = set_byte(state, 5, get_byte(state, 5) # 1) "
                "WHERE position = $1",
                position,
            )
            await connection.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_for_ever")
    finally:
        await connection.close()


async def _altered(service: Service) -> Altered | None:
    try:
        async for _ in walk_chain(service.database, Cursor()):
            pass
    except Altered as found:
        return found
    return None
