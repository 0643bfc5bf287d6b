"""A vector store that takes its time and remembers what it was told, in which order.

It speaks Qdrant's gRPC protocol as far as appliers do. A write is answered after a delay, and kept
only as the list of what came.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from adapters.qdrant_grpc import qdrant


class Sink:
    """What came.

    Attributes:
        url: where it answers.
        written: numbers of points by collection, in the order in which writes began.
        overlaps: writes to a collection that began before the one before was answered.
        calls: number of writes.
        first: when the first write began, by `time.perf_counter`.
        last: when the last one was answered.
    """

    def __init__(self, seconds: float) -> None:
        self.url = ""
        self.written: dict[str, list[int]] = defaultdict(list)
        self.overlaps = 0
        self.calls = 0
        self.first = 0.0
        self.last = 0.0
        self.collections: dict[str, qdrant.CollectionInfo] = {}
        self._seconds = seconds
        self._busy: set[str] = set()

    async def write(self, collection: str, points: Any) -> None:
        """Take points."""
        self.first = self.first or time.perf_counter()
        self.calls += 1
        self.overlaps += collection in self._busy
        self._busy.add(collection)
        self.written[collection] += [point.id.num for point in points]
        await asyncio.sleep(self._seconds)
        self._busy.discard(collection)
        self.last = time.perf_counter()


@asynccontextmanager
async def running_sink(seconds: float) -> AsyncIterator[Sink]:
    """A sink that answers writes after so many seconds, until the block ends."""
    sink = Sink(seconds)
    server = grpc.aio.server()
    generated: Any = qdrant  # has no types
    generated.add_CollectionsServicer_to_server(_Collections(sink), server)
    generated.add_PointsServicer_to_server(_Points(sink), server)
    sink.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield sink
    finally:
        await server.stop(grace=None)


class _Collections(qdrant.CollectionsServicer):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def List(self, _request: Any, _context: Any) -> Any:  # noqa: N802  # the protocol's name
        names = self._sink.collections
        return qdrant.ListCollectionsResponse(
            collections=[qdrant.CollectionDescription(name=name) for name in names]
        )

    async def Create(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self._sink.collections[request.collection_name] = qdrant.CollectionInfo(
            config=qdrant.CollectionConfig(
                params=qdrant.CollectionParams(vectors_config=request.vectors_config)
            )
        )
        return qdrant.CollectionOperationResponse(result=True)

    async def Update(self, request: Any, _context: Any) -> Any:  # noqa: N802
        config = self._sink.collections[request.collection_name].config
        for key, value in request.metadata.items():
            config.metadata[key].CopyFrom(value)
        return qdrant.CollectionOperationResponse(result=True)

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        name = request.collection_name
        if name not in self._sink.collections:
            said = f"Not found: Collection `{name}` doesn't exist!"
            await context.abort(grpc.StatusCode.NOT_FOUND, said)
        return qdrant.GetCollectionInfoResponse(result=self._sink.collections[name])


class _Points(qdrant.PointsServicer):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def Upsert(self, request: Any, _context: Any) -> Any:  # noqa: N802
        await self._sink.write(request.collection_name, request.points)
        return qdrant.PointsOperationResponse(
            result=qdrant.UpdateResult(status=qdrant.UpdateStatus.Completed)
        )
