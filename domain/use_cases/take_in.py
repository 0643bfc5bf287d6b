"""Take in: what others wrote to a store becomes the ledger's, deletions included.

The counterpart of a repair: there the store is put right, here the ledger learns.
"""

import asyncio
from contextlib import aclosing
from uuid import uuid4

from domain.model.aggregate import Context
from domain.model.recorded import ChangeSetDraft
from domain.ports import GenerationStatus
from domain.use_cases.bodies import never_erased
from domain.use_cases.concurrently import in_pages
from domain.use_cases.flows.capture import body_of
from domain.use_cases.merge import PAGE
from domain.use_cases.tools import Tools, recorded_schema
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
    store = tools.stores.store(status.store)
    prefix, number, taken = f"taken-in/{status.generation}/{uuid4()}", 0, 0
    found = confirmed(tools, status, Verification(status.physical, status.applied))
    async with aclosing(in_pages(found, PAGE)) as pages:
        async for page in pages:
            keys = sorted(key for _, key in page)
            before = await tools.applications.status(status.generation)
            captured_at = before.applied if before is not None else status.applied
            points = await store.retrieve(status.physical, keys)
            body, hashes = await asyncio.to_thread(body_of, points, dense)
            more = {
                "captured": True,
                "captured_at": captured_at,
                "source": {"taken_in": True},
            }
            gone = sorted(set(keys) - set(points.keys))
            drafts = [ChangeSetDraft.tombstones(status.generation, gone, **more)] if gone else []
            if len(points):
                body = await never_erased(tools.ledger, points, body)
                address = await tools.objects.put(body)
                drafts.append(
                    ChangeSetDraft.images(status.generation, points.keys, hashes, address, **more)
                )
            number += 1
            await tools.ledger.record(f"{prefix}/{number}", context, drafts)
            taken += len(keys)
    return taken
