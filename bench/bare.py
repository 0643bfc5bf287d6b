"""A bare loop: scroll a shared collection and write each point to the collection of its source.

As fast as a careful script would do it: generated gRPC stubs without the client's conversions, the
next page is fetched while the last one is written, points are gathered until 500 go to one
collection, and four writes are in flight, each waited for.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc.aio

from adapters.qdrant.encoding import Column, fill_points
from adapters.qdrant_grpc import qdrant
from domain.model.points import PointBatch
from domain.model.schema import VectorKind

PAGE = 500
IN_FLIGHT = 4
SECONDS = 60.0
_CollectionsStub: Any = qdrant.CollectionsStub  # generated, without types
_PointsStub: Any = qdrant.PointsStub
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def channel(url: str) -> Any:
    """A channel to a node."""
    return grpc.aio.insecure_channel(urlsplit(url).netloc, options=_UNLIMITED)


async def create(url: str, names: Mapping[str, int]) -> None:
    """Make collections with an index on the source; names to dimensions."""
    async with channel(url) as node:
        collections, points = _CollectionsStub(node), _PointsStub(node)
        for name, dimension in names.items():
            parameters = qdrant.VectorParams(size=dimension, distance=qdrant.Distance.Cosine)
            await collections.Create(
                qdrant.CreateCollection(
                    collection_name=name, vectors_config=qdrant.VectorsConfig(params=parameters)
                ),
                timeout=SECONDS,
            )
            await points.CreateFieldIndex(
                qdrant.CreateFieldIndexCollection(
                    collection_name=name,
                    field_name="source_id",
                    field_type=qdrant.FieldType.FieldTypeKeyword,
                    wait=True,
                ),
                timeout=SECONDS,
            )


async def copy(url: str, source: str, targets: Mapping[str, str]) -> int:
    """Copy every point to the collection of its source; returns how many."""
    async with channel(url) as node:
        stub = _PointsStub(node)
        slots = asyncio.Semaphore(IN_FLIGHT)
        filling: dict[str, qdrant.UpsertPoints] = defaultdict(qdrant.UpsertPoints)
        copied = 0

        async def write(request: qdrant.UpsertPoints) -> None:
            try:
                answer = await stub.Upsert(request, timeout=SECONDS)
            finally:
                slots.release()
            if answer.result.status != qdrant.UpdateStatus.Completed:
                raise RuntimeError(f"an upsert ended as {answer.result.status}")

        async with asyncio.TaskGroup() as group:

            async def send(name: str) -> None:
                request = filling.pop(name)
                request.collection_name, request.wait = name, True
                await slots.acquire()
                group.create_task(write(request))

            ahead = group.create_task(_scroll(stub, source, None))
            while True:
                page = await ahead
                if page.HasField("next_page_offset"):
                    ahead = group.create_task(_scroll(stub, source, page.next_page_offset))
                for found in page.result:
                    name = targets[found.payload["source_id"].string_value]
                    point = filling[name].points.add()
                    point.id.CopyFrom(found.id)
                    point.payload.MergeFrom(found.payload)
                    point.vectors.vector.dense.CopyFrom(found.vectors.vector.dense)
                    if len(filling[name].points) == PAGE:
                        await send(name)
                copied += len(page.result)
                if not page.HasField("next_page_offset"):
                    break
            for name in list(filling):
                await send(name)
    return copied


async def upsert(url: str, name: str, given: Sequence[PointBatch], dimension: int) -> float:
    """Write batches of points to a collection, as they are given; returns the seconds it took."""
    columns = {"": Column(VectorKind.DENSE, dimension)}
    slots = asyncio.Semaphore(IN_FLIGHT)
    began = time.perf_counter()
    async with channel(url) as node, asyncio.TaskGroup() as group:
        stub = _PointsStub(node)

        async def write(request: Any) -> None:
            try:
                await stub.Upsert(request, timeout=SECONDS)
            finally:
                slots.release()

        for points in given:
            request = qdrant.UpsertPoints(collection_name=name, wait=True)
            fill_points(request.points, points, columns)
            await slots.acquire()
            group.create_task(write(request))
    return time.perf_counter() - began


async def read_back(url: str, names: list[str]) -> int:
    """Read every point of collections, as a script would that compares them; returns how many."""
    read = 0
    async with channel(url) as node:
        stub = _PointsStub(node)
        for name in names:
            ahead = asyncio.ensure_future(_scroll(stub, name, None))
            while True:
                page = await ahead
                more = page.HasField("next_page_offset")
                if more:
                    ahead = asyncio.ensure_future(_scroll(stub, name, page.next_page_offset))
                for found in page.result:
                    found.vectors.vector.dense.SerializeToString()
                read += len(page.result)
                if not more:
                    break
    return read


async def _scroll(stub: Any, name: str, offset: Any) -> Any:
    return await stub.Scroll(
        qdrant.ScrollPoints(
            collection_name=name,
            offset=offset,
            limit=PAGE,
            with_payload=qdrant.WithPayloadSelector(enable=True),
            with_vectors=qdrant.WithVectorsSelector(enable=True),
        ),
        timeout=SECONDS,
    )
