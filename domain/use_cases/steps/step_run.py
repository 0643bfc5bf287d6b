"""What every step executor is given, and how it waits for workers."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from domain.model.aggregate import Context
from domain.model.errors import (
    Conflict,
    LedgerError,
    NotFound,
    Rejected,
    VersionConflict,
    WritesHeld,
)
from domain.model.flow import Flow
from domain.model.generation import REPAIRS, Generation
from domain.model.plan import Step
from domain.model.recorded import ChangeSetDraft
from domain.model.schema import CollectionSchema
from domain.ports import GenerationStatus, VectorStore
from domain.use_cases.holds import hold_writes, resume_writes
from domain.use_cases.tools import Tools, live_generation, save, update
from domain.use_cases.verify import Verification, looked_after, verify, verify_and_record

FORWARD, BACK = "do", "undo"
POLL_SECONDS = 0.05


class StepBlocked(LedgerError):
    """A step cannot go on until somebody looks at it."""


@dataclass(frozen=True)
class StepRun:
    """One step of one migration, forward or back.

    Attributes:
        tools: the ports.
        migration: id of the migration.
        step: the step.
        direction: ``do`` or ``undo``; part of idempotency keys.
        context: recorded with everything that the step does.
    """

    tools: Tools
    migration: UUID
    step: Step
    direction: str
    context: Context

    def key(self, *parts: str) -> str:
        """The idempotency key of one effect of this step."""
        return self._key(self.direction, *parts)

    def forward_key(self, *parts: str) -> str:
        """The key that the forward run of this step gave to one of its effects."""
        return self._key(FORWARD, *parts)

    def _key(self, direction: str, *parts: str) -> str:
        return "/".join(["migration", str(self.migration), self.step.id, direction, *parts])

    def forward_flow(self, step: str, name: str) -> UUID:
        """The stream of a flow that the forward run of a step started."""
        return Flow.create_id(str(self.migration), f"{step}/{FORWARD}/{name}")

    def backward_flow(self, name: str) -> UUID:
        """The stream of a flow that the compensation of this step started."""
        return Flow.create_id(str(self.migration), f"{self.step.id}/{BACK}/{name}")

    @property
    def store_name(self) -> str:
        """The store connection that the step works in."""
        name: str = self.step.params["store"]
        return name

    @property
    def store(self) -> VectorStore:
        """The store that the step works in."""
        return self.tools.stores.store(self.store_name)

    async def generation(self, physical: str) -> GenerationStatus:
        """The generation that looks after a physical collection.

        Raises:
            NotFound: the ledger does not look after it.
        """
        found = await live_generation(self.tools.applications, self.store_name, physical)
        if found is None:
            raise NotFound(f"the ledger does not look after collection {physical!r}")
        return found

    async def looked_after(self, names: Iterable[str]) -> list[GenerationStatus]:
        """Those of these physical collections that the ledger looks after."""
        found = [
            await live_generation(self.tools.applications, self.store_name, name) for name in names
        ]
        return [status for status in found if status is not None]

    async def declare(
        self,
        physical: str,
        collection: str,
        schema: CollectionSchema,
        origin: str,
        *,
        held: bool = False,
    ) -> GenerationStatus:
        """Record the next generation of a physical collection; again returns the same one.

        Args:
            physical: name in the store.
            collection: logical name.
            schema: of the collection.
            origin: created, adopted or existing.
            held: whether it takes no live writes from its first moment.
        """
        key = self.key("declare", physical)
        if await self.tools.ledger.answer(key) is None:
            known = await self.tools.applications.generations(
                store=self.store_name, physical=physical
            )
            # What is still to be done to an earlier collection of this name comes first.
            await self.applied(status.generation for status in known[-1:])
            generation = Generation(
                collection=collection,
                store=self.store_name,
                physical=physical,
                number=len(known) + 1,
                schema=schema.to_json(),
                origin=origin,
            )
            if held:
                generation.hold_writes(str(self.migration))
            try:
                await save(self.tools.ledger, generation, key, self.context)
            except VersionConflict as error:
                raise Conflict(
                    f"another migration has just taken collection {physical!r}; "
                    "wait for it, then plan this one again"
                ) from error
        return await self.generation(physical)

    async def declared(self, physical: str) -> GenerationStatus | None:
        """The generation that the forward run of this step declared, gone or not."""
        answer = await self.tools.ledger.answer(self.forward_key("declare", physical))
        if answer is None:
            return None
        (recorded,) = await self.tools.ledger.read(answer.position - 1, 1)
        return await self.tools.applications.status(recorded.stream)

    async def drop(self, generation: UUID, physical: str) -> None:
        """Record that a generation is dropped; again changes nothing."""
        await update(
            self.tools.ledger,
            Generation,
            generation,
            self.key("drop", physical),
            self.context,
            Generation.drop,
        )

    async def release(self, generation: UUID, physical: str) -> None:
        """Record that the ledger lets go of a generation; again changes nothing."""
        await update(
            self.tools.ledger,
            Generation,
            generation,
            self.key("release", physical),
            self.context,
            Generation.release,
        )

    async def hold(self, generation: UUID) -> None:
        """Refuse live writes to a generation; again changes nothing."""
        await hold_writes(self.tools, generation, self.migration, self.context)

    async def hold_alone(self, generation: UUID) -> None:
        """Refuse live writes to a generation that takes them; again changes nothing.

        Raises:
            StepBlocked: another migration holds them already.
        """
        try:
            await hold_writes(self.tools, generation, self.migration, self.context, alone=True)
        except WritesHeld as error:
            listed = ", ".join(error.migrations)
            raise StepBlocked(
                f"{error.collection!r} takes no writes because of migration {listed}, which works "
                "on it or has moved its points elsewhere: cancel that or roll it back first"
            ) from error

    async def resume(self, generation: UUID) -> None:
        """Let live writes to a generation go on, as far as this migration goes."""
        await resume_writes(self.tools, generation, self.migration, self.context)

    async def applied(
        self, generations: Iterable[UUID], *, skip: bool = False, poll: float = POLL_SECONDS
    ) -> None:
        """Wait until the store has everything that is recorded for these generations.

        Args:
            generations: to wait for.
            skip: give dead letters of the forward run up: what they would write is undone anyway.
            poll: seconds between two looks.

        Raises:
            StepBlocked: a change became a dead letter.
        """
        waiting = dict.fromkeys(generations, 0)
        for generation in waiting:
            status = await self.tools.applications.status(generation)
            if status is None:
                raise NotFound(f"there is no generation {generation}")
            waiting[generation] = status.recorded
        while waiting:
            for generation, recorded in list(waiting.items()):
                status = await self.tools.applications.status(generation)
                if status is None:
                    raise NotFound(f"there is no generation {generation}")
                if status.applied >= recorded:
                    del waiting[generation]
                elif status.halted_at is None:
                    continue
                elif skip and await self._may_be_skipped(generation, status.halted_at):
                    with suppress(Rejected):  # somebody else was faster
                        await self.tools.applications.skip(generation, self.context)
                else:
                    raise StepBlocked(
                        f"collection {status.physical!r} halts at change {status.halted_at}, which "
                        "the store refuses; see `dead-letter list`, then retry or skip it"
                    )
            if waiting:
                await asyncio.sleep(poll)

    async def _may_be_skipped(self, generation: UUID, version: int) -> bool:
        """Whether the forward run of this migration recorded a change, so that it is undone anyway.

        What others recorded, and what undoes something, must reach the store.
        """
        (recorded,) = await self.tools.ledger.events(generation, after=version - 1, through=version)
        event = recorded.event
        if isinstance(event, REPAIRS):
            return True
        if recorded.context.correlation_id != str(self.migration):
            return False
        if isinstance(event, Generation.ChangeSetRecorded):
            source = event.source
            backward = source.get("direction") == BACK or f"/{BACK}/" in source.get("step", "")
            return not (event.deletes or source.get("carried") or backward)
        return not isinstance(event, Generation.Dropped | Generation.AliasRemoved)

    async def verify(self, physical: str) -> Verification:
        """Compare a collection with the ledger."""
        return await verify(self.tools, self.store_name, physical)

    async def verify_and_record(self, physical: str) -> Verification:
        """Compare a collection with the ledger, and record what was found."""
        status = await looked_after(self.tools, self.store_name, physical)
        return await verify_and_record(self.tools, status, self.context)

    async def delete_all(self, generation: UUID, physical: str) -> int:
        """Record deletions of all points of a generation; returns how many."""
        deleted, after, size = 0, b"", self.step.params["batch"]
        while True:
            heads = await self.tools.ledger.heads(generation, after=after, limit=size)
            if not heads:
                return deleted
            after = heads.keys[-1]
            draft = ChangeSetDraft.tombstones(generation, heads.keys, source={"step": self.step.id})
            await self.tools.ledger.record(
                self.key("delete", physical, after.hex()), self.context, [draft]
            )
            deleted += len(heads)
