"""Split shared collections, survive a kill, verify, search, roll back: the main job."""

import asyncio
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import yaml

from adapters.bootstrap import DEFAULT, Service
from adapters.cli.demo.knowledge_base import KnowledgeBase
from adapters.cli.demo.sources import DOCUMENTS
from adapters.cli.demo.telling import MARKER, QUESTION, Teller
from adapters.cli.following import follow
from adapters.cli.stack import Stack
from adapters.cli.tables import rows, show_plan
from adapters.embedders.lsa import LsaModel
from domain.model.migration import Migration, State
from domain.model.points import decode_payload
from domain.use_cases.no_longer_true import no_longer_true
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.search_collections import search_collections
from domain.use_cases.steer_migration import roll_back_migration, start_migration
from domain.use_cases.verify import verify

SHORT = 16


class Split:
    """The stages of the main job, and what they claim."""

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.cli = teller.cli
        self.console = teller.console
        self.held = teller.held

    def further(self, where: str) -> list[str]:
        """What to look at afterwards."""
        spec = shlex.quote(str(Path(where) / MARKER))
        return ["migration list", "collection list --all", f"apply {spec}"]

    async def tell(self, stack: Stack, service: Service) -> None:
        """Run all stages."""
        await self.teller.show_servers()
        knowledge = await self.teller.load(service)
        before = await self.teller.digests(service, list(knowledge.collections.values()))
        table_before = await _table(service, knowledge).digest()
        migration = await self._plan(service, knowledge)
        await self._apply(stack, service, migration)
        await self._verify(service, migration)
        await self._search(service, knowledge)
        await self._again(service, migration)
        await self._roll_back(service, migration)
        await self._compare(service, knowledge, before, table_before)
        await self._explain(service, migration)

    async def _plan(self, service: Service, knowledge: KnowledgeBase) -> Migration:
        self.teller.stage("Plan: one collection for each source and type")
        reason = "each domain in collections of its own"
        spec = {
            "version": 1,
            "name": "split-knowledge-base",
            "recipe": "per-domain-collections",
            "reason": reason,
            "ticket": "DEMO-1",
            "from": {
                "connection": DEFAULT,
                "table": f"{knowledge.schema}.sources",
                "store": DEFAULT,
                "collections": dict(knowledge.collections),
            },
            "to": {"store": DEFAULT},
            "after": "drop",
            "batch": {"size": 250},
        }
        path = service.settings.data_dir / MARKER
        path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
        context = self.cli.context(reason)
        planned = await plan_migration(service.tools, spec, context)
        show_plan(self.console, planned.plan, title=f"  {path}")
        self.console.print(f"  id   {planned.migration.id}\n  hash {planned.plan.hash}")
        return planned.migration

    async def _apply(self, stack: Stack, service: Service, migration: Migration) -> None:
        self.teller.stage("Apply, and kill the applier with SIGKILL in the middle of it")
        context = self.cli.context(migration.spec["reason"])
        started = await start_migration(service.tools, migration, context)
        log = service.settings.data_dir / "logs" / f"migration-{migration.id}.log"
        async with asyncio.TaskGroup() as group:
            killing = group.create_task(self._kill(stack, service, migration))
            following = group.create_task(
                follow(self.cli, service, started, log=log, wanted=State.COMPLETED)
            )
        self.held["the applier was killed in the middle, and the migration completed"] = (
            killing.result() and following.result() == 0
        )

    async def _kill(self, stack: Stack, service: Service, migration: Migration) -> bool:
        """Kill the applier once it has written some targets and others are still to be written."""
        while True:
            targets = [
                status
                for status in await service.applications.generations(store=DEFAULT)
                if "__g" in status.physical and status.recorded > 1
            ]
            applied = sum(status.applied > 1 for status in targets)
            if applied:
                break
            found = await service.ledger.load(Migration, migration.id)
            if found is None or found.state.settled:
                return False
            await asyncio.sleep(0.01)
        pid = stack.supervisor.pid("worker-applier")
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        self.console.print(
            f"  SIGKILL to the applier, process {pid}, "
            f"with changes in {applied} of {len(targets)} collections"
        )
        return True

    async def _verify(self, service: Service, migration: Migration) -> None:
        self.teller.stage(
            "Verify: every point of every new collection against the ledger, bit for bit"
        )
        targets = next(s for s in migration.plan.steps if s.id == "aliases").params["aliases"]
        found = [await verify(service.tools, DEFAULT, physical) for physical in targets.values()]
        shown = [
            {
                "collection": name,
                "points": verification.points,
                "store": verification.digest[:SHORT],
                "ledger": verification.recorded_digest[:SHORT],
                "equal": verification.equal,
            }
            for name, verification in zip(targets, found, strict=True)
        ]
        rows(self.console, ["collection", "points", "store", "ledger", "equal"], shown)
        total = sum(verification.points for verification in found)
        expected = sum(migration.plan.estimates["points"].values())
        self.held[f"{len(found)} collections hold {total:,} of {expected:,} points, all equal"] = (
            total == expected and all(verification.equal for verification in found)
        )

    async def _search(self, service: Service, knowledge: KnowledgeBase) -> None:
        self.teller.stage(f"Search: {QUESTION!r}")
        two = [s for s in knowledge.sources if DOCUMENTS in s.enabled_collections][:2]
        model = await asyncio.to_thread(LsaModel.load, knowledge.models[DOCUMENTS])
        vector = model.embed([QUESTION])[0].tolist()
        names = {}
        for row in await _table(service, knowledge).rows():
            if row.id in {source.id for source in two}:
                names[row.id] = (row.names or {})[DOCUMENTS]
        store = service.stores.store(DEFAULT)
        for chosen in ([names[two[0].id]], list(names.values())):
            hits = await search_collections(store, chosen, vector, limit=3)
            self.console.print(f"  in {' and '.join(chosen)}:")
            sources = set()
            for hit in hits:
                payload = decode_payload(hit.payload)
                sources.add(payload["source_id"])
                text = " ".join(payload["text"].split())[:60]
                self.console.print(f"    {hit.score:.3f}  {hit.collection}  {text}")
            wanted = {i for i, name in names.items() if name in chosen}
            claim = "in one source" if len(chosen) == 1 else "merged over two sources"
            self.held[f"a search {claim} answers from nothing else"] = (
                bool(hits) and sources <= wanted
            )

    async def _again(self, service: Service, migration: Migration) -> None:
        self.teller.stage("Apply the same spec again")
        planned = await plan_migration(
            service.tools, migration.spec, self.cli.context(migration.spec["reason"])
        )
        untrue = await no_longer_true(service.tools, planned.migration)
        nothing = planned.migration.state is State.COMPLETED and not untrue
        self.console.print(
            f"  {planned.migration.id} is {planned.migration.state}: "
            f"{'nothing to do' if nothing else '; '.join(untrue)}"
        )
        self.held["applying again has nothing to do"] = nothing

    async def _roll_back(self, service: Service, migration: Migration) -> None:
        self.teller.stage(
            "Roll back: the shared collections were dropped, and come back from the ledger"
        )
        asked = await roll_back_migration(
            service.tools, migration.id, self.cli.context("the demo wants everything as it was")
        )
        status = await follow(self.cli, service, asked, log=None, wanted=State.ROLLED_BACK)
        self.held["the migration rolled back"] = status == 0

    async def _compare(
        self,
        service: Service,
        knowledge: KnowledgeBase,
        before: dict[str, str],
        table_before: str,
    ) -> None:
        after = await self.teller.digests(service, list(before))
        after["sources (rows and column)"] = await _table(service, knowledge).digest()
        before = {**before, "sources (rows and column)": table_before}
        shown = [{"what": name, "before": before[name], "after": after[name]} for name in before]
        for row in shown:
            self.console.print(
                f"  {row['what']}\n    before {row['before']}\n    after  {row['after']}",
            )
        self.held["shared collections and table are back, bit for bit"] = before == after
        left = await service.stores.store(DEFAULT).collections()
        self.held["nothing else is left in the store"] = sorted(left) == sorted(
            knowledge.collections.values()
        )

    async def _explain(self, service: Service, migration: Migration) -> None:
        self.teller.stage("Who, what and why, from the events")
        events = [
            recorded
            for recorded in await service.ledger.events(migration.id)
            if recorded.topic
            in {
                "migration.planned",
                "migration.started",
                "migration.completed",
                "migration.rollback-requested",
                "migration.rolled-back",
            }
        ]
        shown = [
            {
                "position": recorded.position,
                "at": recorded.recorded_at.strftime("%H:%M:%S"),
                "who": recorded.context.actor.id,
                "what": recorded.topic.removeprefix("migration."),
                "why": recorded.context.reason,
            }
            for recorded in events
        ]
        rows(self.console, ["position", "at", "who", "what", "why"], shown)
        head = await service.ledger.head()
        self.console.print(f"  {head.position:,} events in the ledger, head {head.hash.hex()}")


def _table(service: Service, knowledge: KnowledgeBase) -> Any:
    return service.stores.table(DEFAULT, f"{knowledge.schema}.sources")
