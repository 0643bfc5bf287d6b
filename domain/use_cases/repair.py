"""Put right what differs in a store, as recorded changes that appliers carry out.

Only what differs is written: points that are missing or changed from their bodies, points that the
ledger does not have are deleted, and what is missing of the schema is made again. The ledger's
points stay as they are.
"""

from contextlib import aclosing
from dataclasses import dataclass
from uuid import uuid4

from domain.model.aggregate import Context
from domain.model.errors import Conflict, Corrupt, NotFound
from domain.model.generation import Generation
from domain.model.recorded import Heads
from domain.ports import GenerationStatus
from domain.use_cases.bodies import BodyCache
from domain.use_cases.concurrently import in_pages
from domain.use_cases.merge import PAGE, Difference
from domain.use_cases.tools import Tools, update
from domain.use_cases.verify import (
    Verification,
    confirmed,
    refuse_unready,
    schema_differences,
    stored_hashes,
)


@dataclass
class Repair:
    """What was recorded to put a collection right.

    Attributes:
        points: that were recorded to be written or deleted.
        kept: points that the ledger does not have, left where they are.
        lacking: points that cannot be written, because their bodies are gone.
        cause: which bodies; empty if none.
        schema: differences of vectors and indexes that are put right.
        through: version of the generation's stream with which the store is right.
    """

    points: int = 0
    kept: int = 0
    lacking: int = 0
    cause: str = ""
    schema: tuple[str, ...] = ()
    through: int = 0


async def repair(
    tools: Tools, status: GenerationStatus, context: Context, *, keep_extra: bool | None = None
) -> Repair:
    """Compare a collection with the ledger and record what puts it right; again changes nothing.

    Memory stays at a few pages. It may be stopped anywhere: what was recorded is applied, and the
    next repair finds the rest.

    Args:
        tools: the ports.
        status: of the generation.
        context: who asks for it, and why.
        keep_extra: whether to leave points that the ledger does not have; None to leave them in a
            collection that was there before the ledger, where they may belong to others.

    Raises:
        Conflict: the collection halts at a dead letter, has other vectors than recorded, or is not
            ready, see `refuse_unready`.
        NotFound: it was dropped or released meanwhile.
    """
    if status.halted_at is not None:
        raise Conflict(
            f"collection {status.physical!r} halts at change {status.halted_at}, and a repair "
            "would wait behind it; see `dead-letter list`, then retry or skip it"
        )
    await refuse_unready(tools, status)
    if keep_extra is None:
        (created,) = await tools.ledger.events(status.generation, through=1)
        keep_extra = vars(created.event)["origin"] != "created"
    done = Repair(schema=await _restore_schema(tools, status, context))
    run = _Run(tools, status, context, done, keep_extra=keep_extra)
    found = confirmed(tools, status, Verification(status.physical, status.applied))
    async with aclosing(in_pages(found, PAGE)) as pages:
        async for page in pages:
            await run.record(page)
    now = await tools.applications.status(status.generation)
    done.through = now.recorded if now is not None else 0
    return done


async def _restore_schema(
    tools: Tools, status: GenerationStatus, context: Context
) -> tuple[str, ...]:
    differences = await schema_differences(tools, status)
    if differences.vectors:
        raise Conflict(
            f"collection {status.physical!r} has other vectors than recorded "
            f"({'; '.join(differences.vectors)}), which cannot be put right where it is: "
            "rebuild it under another name, or drop it in the store and repair it then"
        )
    if differences.lacking:
        key = f"repair/{status.generation}/schema/{uuid4()}"
        await update(
            tools.ledger, Generation, status.generation, key, context, Generation.restore_schema
        )
    return differences.lacking


class _Run:
    """One repair under way."""

    def __init__(
        self,
        tools: Tools,
        status: GenerationStatus,
        context: Context,
        done: Repair,
        *,
        keep_extra: bool,
    ) -> None:
        self._tools = tools
        self._status = status
        self._context = context
        self._bodies = BodyCache(tools.objects)
        self._done = done
        self._keep_extra = keep_extra
        self._key = f"repair/{status.generation}/{uuid4()}"
        self._pages = 0

    async def record(self, page: list[Difference]) -> None:
        """Record the repair of some points."""
        extra = [key for kind, key in page if kind == "extra"]
        wanted = [key for kind, key in page if kind != "extra"]
        if self._keep_extra:
            self._done.kept += len(extra)
            extra = []
        heads = await self._tools.ledger.heads_of(self._status.generation, sorted(wanted))
        lacking = await self._lacking(heads)
        keys = [*extra, *(key for key in heads.keys if key not in lacking)]
        if not keys:
            return
        there = await stored_hashes(self._tools, self._status, keys)
        draft = heads.draft(self._status.generation, keys, found=[there.get(key) for key in keys])
        self._pages += 1
        await self._tools.ledger.record(f"{self._key}/{self._pages}", self._context, [draft])
        self._done.points += len(keys)

    async def _lacking(self, heads: Heads) -> set[bytes]:
        """Points whose bodies are gone or altered; they are counted."""
        lacking: set[bytes] = set()
        for address, rows in heads.bodies().items():
            try:
                await self._bodies.get(address)
            except (Corrupt, NotFound) as error:
                lacking.update(
                    key
                    for key, body in zip(heads.keys, heads.objects, strict=True)
                    if body == address
                )
                self._done.lacking += len(rows)
                self._done.cause = self._done.cause or str(error)
        return lacking
