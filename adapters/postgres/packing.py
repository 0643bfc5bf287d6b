"""Recording packs: the points whose bodies are elsewhere from now on, and the event, at once."""

from typing import Any
from uuid import UUID

from adapters.postgres.appending import Outcome, append_last, encode_events
from adapters.postgres.bodies import claim_bodies
from adapters.postgres.connection import Database
from adapters.postgres.erasures import refuse_erased
from adapters.postgres.generations import follow, lock_generations
from adapters.postgres.heads import known_heads, move_heads
from adapters.postgres.objects import put_objects
from domain.model.aggregate import NOT_RECORDED, Context
from domain.model.bodies import Manifest, address_of, encode_manifest
from domain.model.errors import ChangedMeanwhile, Rejected
from domain.model.generation import Generation
from domain.model.points import id_of
from domain.model.recorded import Heads

NOTHING = Outcome(None, "appended", 0, 0)


async def record_pack(
    database: Database, context: Context, generation: UUID, heads: Heads
) -> tuple[Outcome, int]:
    """Let heads name other bodies, if all their points are still the same; how many did.

    It needs no idempotency key: what has moved does not move again.

    Raises:
        Rejected: the generation does not exist, or was dropped or released.
        BodyErased: points were erased of a body that others refer to, too.
        ChangedMeanwhile: a point is something else by now. What it was would stay in its new body,
            where nobody would find it who has to erase it.
    """
    async with database.transaction() as connection:
        locked = (await lock_generations(connection, [generation])).get(generation)
        if locked is None or locked.gone:
            raise Rejected(f"generation {generation} does not exist or was dropped or released")
        manifest = _manifest(heads)
        claimed = await claim_bodies(connection, manifest.objects)
        await refuse_erased(connection, claimed, zip(heads.objects, heads.rows, strict=True))
        known = await known_heads(connection, locked.gid, manifest.keys)
        for key, hash_ in zip(manifest.keys, manifest.hashes, strict=True):
            if known[key][0] != hash_:
                raise ChangedMeanwhile(f"point {id_of(key)} was changed while it was packed")
        moved = await move_heads(connection, locked.gid, manifest, claimed.numbers)
        if not moved:
            return NOTHING, 0
        content = encode_manifest(manifest)
        await put_objects(connection, {address_of(content): content})
        fields: dict[str, Any] = {"manifest": address_of(content), "points": moved}
        event = Generation.BodiesPacked(
            originator_id=generation,
            originator_version=locked.recorded + 1,
            timestamp=NOT_RECORDED,
            **fields,
        )
        await follow(connection, [event])
        return await append_last(connection, encode_events([event], context)), moved


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
