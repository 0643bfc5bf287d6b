"""Take in: what others wrote to a store becomes the ledger's, deletions included.

The counterpart of a repair: there the store is put right, here the ledger learns.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from uuid import uuid4

from domain.model.aggregate import Context
from domain.model.errors import BodyErased
from domain.model.recorded import ChangeSetDraft
from domain.ports import GenerationStatus
from domain.use_cases.bodies import never_erased
from domain.use_cases.concurrently import in_pages
from domain.use_cases.flows.capture import body_of
from domain.use_cases.merge import PAGE
from domain.use_cases.tools import Tools, recorded_schema, unless_changed
from domain.use_cases.verify import Verification, confirmed, looked_after


async def take_in(tools: Tools, status: GenerationStatus, context: Context) -> int:
    """Record what a store holds instead of what is recorded; returns how many points differed.

    A change that is recorded and not applied yet is newer than what the store holds, and stays.
    Memory stays at a few pages. It may be stopped anywhere: the next one finds the rest.

    Args:
        tools: the ports.
        status: of the generation.
        context: who asks for it, and why.

    Raises:
        InvalidPoint: a vector has NaN or infinity.
        NotFound: it was dropped or released meanwhile.
    """
    status = await looked_after(tools, status.store, status.physical)
    dense = (await recorded_schema(tools.ledger, status.generation)).dense
    prefix, number, taken = f"taken-in/{status.generation}/{uuid4()}", 0, 0
    found = confirmed(tools, status, Verification(status.physical, status.applied))
    async with aclosing(in_pages(found, PAGE)) as pages:
        async for page in pages:
            keys = sorted(key for _, key in page)
            number += 1
            key = f"{prefix}/{number}"
            await unless_changed(partial(_take, tools, status, keys, dense, key, context))
            taken += len(keys)
    return taken


async def _take(
    tools: Tools,
    status: GenerationStatus,
    keys: Sequence[bytes],
    dense: list[str],
    key: str,
    context: Context,
) -> None:
    """Record what a store holds of some points.

    Raises:
        ChangedMeanwhile: points of the same body were erased in between.
    """
    before = await tools.applications.status(status.generation)
    captured_at = before.applied if before is not None else status.applied
    points = await tools.stores.store(status.store).retrieve(status.physical, keys)
    body, hashes = await asyncio.to_thread(body_of, points, dense)
    more = {"captured": True, "captured_at": captured_at, "source": {"taken_in": True}}
    gone = sorted(set(keys) - set(points.keys))
    drafts = [ChangeSetDraft.tombstones(status.generation, gone, **more)] if gone else []
    try:
        if len(points):
            body = await never_erased(tools.ledger, points, body)
            address = await tools.objects.put(body)
            drafts.append(
                ChangeSetDraft.images(status.generation, points.keys, hashes, address, **more)
            )
        await tools.ledger.record(key, context, drafts)
    except BodyErased as error:
        if error.gone:
            # It may have been put again, and nobody else would look for it.
            await tools.objects.delete([error.address])
        raise
