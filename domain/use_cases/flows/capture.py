"""Capture: the points that a store holds become the ledger's."""

import asyncio

import numpy as np

from domain.model.bodies import encode_body
from domain.model.errors import InvalidPoint, NotFound
from domain.model.flow import Flow
from domain.model.generation import Generation
from domain.model.points import FLOAT32, PointBatch, id_of
from domain.model.recorded import ChangeSetDraft
from domain.use_cases.bodies import never_erased
from domain.use_cases.flows import reading
from domain.use_cases.flows.reading import Place, RangeResult
from domain.use_cases.tools import Tools

RANGE_BYTES = 64 * 2**20


async def capture(tools: Tools, flow: Flow, place: Place) -> RangeResult:
    """Read points from the store that a generation was adopted from; bodies become objects."""
    generation = await tools.ledger.load(Generation, flow.source)
    if generation is None:
        raise NotFound(f"there is no generation {flow.source}")
    store = tools.stores.store(generation.store)
    result, size = RangeResult("capture"), 0
    limit = flow.batch * reading.CHANGE_SETS_A_RANGE
    async for page in store.scan(
        generation.physical, after=place.after, page=flow.batch, limit=limit
    ):
        content, hashes = await asyncio.to_thread(body_of, page, generation.schema.dense)
        content = await never_erased(tools.ledger, page, content)
        address = await tools.objects.put(content)
        result.drafts.append(
            ChangeSetDraft.images(
                flow.source,
                page.keys,
                hashes,
                address,
                captured=True,
                captured_at=flow.through,
                source=place.source(flow.step),
            )
        )
        result.read += len(page)
        size += len(content)
        if result.read == limit or size >= RANGE_BYTES:
            result.following = {"after": page.keys[-1].hex()}
            break
    result.placed[str(flow.source)] = result.read
    return result


def body_of(page: PointBatch, dense: list[str]) -> tuple[bytes, list[bytes]]:
    """The encoded body of points that a store holds, and the hash of each.

    Raises:
        InvalidPoint: one of the vectors named in `dense` has NaN or infinity.
    """
    for name in dense:
        column = page.vectors.get(name, [])
        flat = np.frombuffer(b"".join(v for v in column if v is not None), dtype=FLOAT32)
        if not np.isfinite(flat).all():
            bad = next(
                key
                for key, vector in zip(page.keys, column, strict=True)
                if vector is not None and not np.isfinite(np.frombuffer(vector, FLOAT32)).all()
            )
            raise InvalidPoint(
                f"point {id_of(bad)} has NaN or infinity in vector {name!r}; repair or delete it"
            )
    return encode_body(page), page.hashes()
