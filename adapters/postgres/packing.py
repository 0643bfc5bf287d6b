"""Recording packs: the points whose bodies are elsewhere from now on, and the event, at once."""

from typing import Any
from uuid import UUID

from adapters.postgres.appending import Outcome, append_last, encode_events
from adapters.postgres.bodies import claim_bodies
from adapters.postgres.connection import Database
from adapters.postgres.erasures import refuse_erased_heads
from adapters.postgres.generations import follow, lock_generations
from adapters.postgres.heads import move_heads
from adapters.postgres.objects import put_objects
from domain.model.aggregate import NOT_RECORDED, Context
from domain.model.bodies import Manifest, address_of, encode_manifest
from domain.model.errors import Rejected
from domain.model.generation import Generation
from domain.model.recorded import Heads

NOTHING = Outcome(None, "appended", 0, 0)


async def record_pack(
    database: Database, context: Context, generation: UUID, heads: Heads
) -> tuple[Outcome, int]:
    """Let heads name other bodies, if their points are still the same; how many did.

    It needs no idempotency key: what has moved does not move again.

    Raises:
        Rejected: the generation does not exist, or was dropped or released.
        ChangedMeanwhile: a point was erased, so its new body has what nobody may keep.
    """
    async with database.transaction() as connection:
        locked = (await lock_generations(connection, [generation])).get(generation)
        if locked is None or locked.gone:
            raise Rejected(f"generation {generation} does not exist or was dropped or released")
        claimed = await claim_bodies(connection, set(heads.objects))
        keys = await move_heads(connection, locked.gid, _manifest(heads), claimed.numbers)
        changed = [key for key in heads.keys if key not in keys]
        await refuse_erased_heads(connection, locked.gid, changed)
        moved = heads.only(keys)
        if not len(moved):
            return NOTHING, 0
        content = encode_manifest(_manifest(moved))
        await put_objects(connection, {address_of(content): content})
        fields: dict[str, Any] = {"manifest": address_of(content), "points": len(moved)}
        event = Generation.BodiesPacked(
            originator_id=generation,
            originator_version=locked.recorded + 1,
            timestamp=NOT_RECORDED,
            **fields,
        )
        await follow(connection, [event])
        return await append_last(connection, encode_events([event], context)), len(moved)


def _manifest(heads: Heads) -> Manifest:
    """A manifest that changes no point: it says where bodies are."""
    objects = sorted(set(heads.objects))
    place = {address: index for index, address in enumerate(objects)}
    return Manifest(
        keys=heads.keys,
        before=[*heads.hashes],
        hashes=[*heads.hashes],
        objects=objects,
        object_index=[place[address] for address in heads.objects],
        rows=heads.rows,
    )
