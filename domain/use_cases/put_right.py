"""Make the collection of a generation what the ledger says it is, as far as its points are ours.

Whose the points are: of a collection that the ledger made, all are its own. In one that was there
before and was taken empty, the ledger's points are put right and others are left. One that was
adopted is its users': it is compared and left as it is, unless it is gone; then it is made again.
"""

from contextlib import aclosing
from dataclasses import dataclass, replace

from domain.model.errors import Corrupt, LedgerError, NotFound, Rejected, SchemaMismatch
from domain.model.generation import Generation
from domain.model.timeline import Witness
from domain.ports import GenerationStatus, Recovered, VectorStore
from domain.use_cases.bodies import BodyCache
from domain.use_cases.change_effects import POINTS_AT_ONCE
from domain.use_cases.tools import Tools, given_up
from domain.use_cases.verify import Verification, differences


@dataclass(frozen=True)
class _Found:
    """What is there before anything is done.

    Attributes:
        there: the store has the collection.
        ours: it says that this ledger looks after it.
        writable: the ledger's points may be written to it.
        emptied: points that the ledger does not have may be deleted from it.
    """

    there: bool
    ours: bool
    writable: bool
    emptied: bool


async def put_right(
    tools: Tools,
    bodies: BodyCache,
    status: GenerationStatus,
    witness: Witness,
    *,
    keep_extra: bool = False,
) -> Recovered:
    """Compare a collection with the heads and put right what may be; again changes nothing.

    It is compared at what is recorded, not at what was applied; nothing may be recorded or applied
    meanwhile. Memory stays at a few pages of points.

    Args:
        tools: the ports.
        bodies: of points that have to be written.
        status: of the generation.
        witness: what the collection is to say of the ledger.
        keep_extra: leave points that the ledger does not have, also where they could be deleted.
    """
    witness = replace(witness, generation=str(status.generation), version=status.recorded)
    generation = await tools.ledger.load(Generation, status.generation)
    if generation is None:
        raise NotFound(f"there is no generation {status.generation}")
    store = tools.stores.store(status.store)
    found = await _look(tools, store, status, generation, witness)
    if found.writable:
        try:
            await _make(store, generation, witness, found)
        except Rejected as error:
            return Recovered(through=0, lacking=max(1, status.points), cause=str(error))
    elif not found.there:
        return Recovered(through=status.applied, missing=status.points, left=status.points)
    if keep_extra:
        found = replace(found, emptied=False)
    recovered = await _Repair(tools, bodies, store, status, found).run()
    if found.writable or found.ours:
        await store.write_witness(status.physical, witness)
    return recovered


async def _look(
    tools: Tools,
    store: VectorStore,
    status: GenerationStatus,
    generation: Generation,
    witness: Witness,
) -> _Found:
    there = status.physical in await store.collections()
    said = await store.read_witness(status.physical) if there else None
    ours = said is not None and said.ledger == witness.ledger
    if await given_up(tools.ledger, status.generation):
        return _Found(there, ours=False, writable=False, emptied=False)
    begun = ours or status.applied > 0
    unfinished = said is not None and said.unfinished and said.generation == str(status.generation)
    emptied = not there or unfinished or (generation.origin == "created" and begun)
    writable = emptied or (generation.origin == "existing" and begun)
    return _Found(there and not unfinished, ours, writable, emptied)


async def _make(
    store: VectorStore, generation: Generation, witness: Witness, found: _Found
) -> None:
    """Make the collection if it is gone, and the indexes that it lacks.

    A collection that is being filled says so from its first moment: whoever goes on after a crash
    then knows that it holds no points of others.
    """
    unfinished = replace(witness, unfinished=True)
    try:
        await store.create(generation.physical, generation.schema, witness=unfinished)
    except SchemaMismatch:
        if not (found.emptied and found.ours):
            raise
        # It was made in the history that no longer counts.
        await store.drop(generation.physical)
        await store.create(generation.physical, generation.schema, witness=unfinished)


class _Repair:
    """The comparison of one collection, and what it writes on the way."""

    def __init__(
        self,
        tools: Tools,
        bodies: BodyCache,
        store: VectorStore,
        status: GenerationStatus,
        found: _Found,
    ) -> None:
        self._ledger = tools.ledger
        self._bodies = bodies
        self._store = store
        self._status = status
        self._found = found
        self._through = status.recorded if found.writable else status.applied
        self._left = 0
        self._lacking = 0
        self._cause = ""

    async def run(self) -> Recovered:
        """Compare and put right."""
        compared = Verification(self._status.physical)
        wanted: list[bytes] = []
        unwanted: list[bytes] = []
        found = differences(self._ledger, self._store, self._status.generation, compared)
        async with aclosing(found):
            async for kind, key in found:
                compared.note(kind, key)
                if not (self._found.emptied if kind == "extra" else self._found.writable):
                    self._left += 1
                    continue
                (unwanted if kind == "extra" else wanted).append(key)
                if len(wanted) + len(unwanted) == POINTS_AT_ONCE:
                    await self._flush(wanted, unwanted)
        await self._flush(wanted, unwanted)
        return Recovered(
            through=self._through,
            made=not self._found.there,
            missing=compared.missing,
            extra=compared.extra,
            changed=compared.changed,
            left=self._left,
            lacking=self._lacking,
            cause=self._cause,
        )

    async def _flush(self, wanted: list[bytes], unwanted: list[bytes]) -> None:
        if wanted:
            await self._write(wanted)
        if unwanted:
            await self._store.delete(self._status.physical, unwanted)
        wanted.clear()
        unwanted.clear()

    async def _write(self, keys: list[bytes]) -> None:
        """Write points from their bodies; those that cannot be are found by halving."""
        heads = await self._ledger.heads_of(self._status.generation, keys)
        try:
            points = await self._bodies.points(heads.bodies())
            await self._store.upsert(self._status.physical, points)
        except (Corrupt, Rejected) as error:
            if len(keys) == 1:
                self._give_up(heads.versions[0], error)
                return
            half = len(keys) // 2
            await self._write(keys[:half])
            await self._write(keys[half:])

    def _give_up(self, version: int, error: LedgerError) -> None:
        self._lacking += 1
        self._through = min(self._through, version - 1)
        self._cause = self._cause or str(error)
