"""`QdrantStore` against a server that misbehaves: a real gRPC server with scripted answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from random import SystemRandom
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from vector_store import numbered

from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.store import QdrantStore
from adapters.qdrant_grpc import qdrant
from domain.model.errors import LedgerError, NotFound, Rejected, Unavailable
from domain.model.points import key_of

Code = grpc.StatusCode
Status = qdrant.UpdateStatus
DONE = qdrant.PointsOperationResponse(result=qdrant.UpdateResult(status=Status.Completed))


class Faulty(qdrant.PointsServicer, qdrant.CollectionsServicer):
    """Answers each write with the next of its script, then with success."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.calls = 0
        self.writes: list[int] = []
        self.metadata: list[tuple[str, str]] = []
        self.pages = asyncio.Semaphore(0)
        self.second_page = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        vector = qdrant.VectorParams(size=4, distance=qdrant.Distance.Dot)
        params = qdrant.CollectionParams(vectors_config=qdrant.VectorsConfig(params=vector))
        config = qdrant.CollectionConfig(params=params)
        return qdrant.GetCollectionInfoResponse(result=qdrant.CollectionInfo(config=config))

    async def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls += 1
        self.metadata = list(context.invocation_metadata())
        assert request.wait
        assert request.timeout
        step = self.script.pop(0) if self.script else DONE
        if isinstance(step, tuple):
            code, details, *trailing = step
            await context.abort(code, details, tuple(trailing))
        if step == "silence":
            await asyncio.sleep(60)
        self.writes.append(len(request.points))
        return step

    async def Scroll(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        if request.offset.num:
            self.second_page.set()
        try:
            await self.pages.acquire()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        start = request.offset.num
        return qdrant.ScrollResponse(
            result=[qdrant.RetrievedPoint(id=qdrant.PointId(num=start))],
            next_page_offset=qdrant.PointId(num=start + 1),
        )


class Server:
    """The server and a store that talks to it, with short deadlines."""

    def __init__(self, faulty: Faulty, url: str) -> None:
        self.faulty = faulty
        self.url = url

    def store(self, key: str | None = None, **settings: Any) -> QdrantStore:
        settings = {"deadline": 0.5, "bulk_deadline": 0.5, **settings}
        return QdrantStore(Endpoint(self.url, key), random=SystemRandom(), **settings)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    faulty, running = Faulty(), grpc.aio.server()
    qdrant.add_PointsServicer_to_server(faulty, running)
    qdrant.add_CollectionsServicer_to_server(faulty, running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    yield Server(faulty, f"http://127.0.0.1:{port}")
    await running.stop(None)


def status(number: int) -> qdrant.PointsOperationResponse:
    return qdrant.PointsOperationResponse(result=qdrant.UpdateResult(status=number))


@pytest.mark.parametrize(
    "fault",
    [
        status(Status.WaitTimeout),
        status(Status.Acknowledged),
        status(Status.ClockRejected),
        status(Status.UnknownUpdateStatus),
        status(99),
        (Code.UNAVAILABLE, "restarting"),
        (Code.ABORTED, "conflict"),
        (Code.INTERNAL, "disk"),
        (Code.RESOURCE_EXHAUSTED, "rate", ("retry-after", "0")),
        (Code.DEADLINE_EXCEEDED, "shard"),
        "silence",
    ],
    ids=lambda fault: str(fault).replace("\n", " ")[:40],
)
async def test_write_that_may_not_have_happened_is_written_again(
    server: Server, fault: Any
) -> None:
    server.faulty.script = [fault, fault]
    async with server.store() as store:
        await store.upsert("c", numbered(1))
    assert server.faulty.calls == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(Status.WaitTimeout), "WaitTimeout"),
        ((Code.UNAVAILABLE, "restarting"), "restarting"),
        ("silence", "no answer within 0.5 s"),
    ],
    ids=["status", "unavailable", "silence"],
)
async def test_retries_are_bounded_and_the_error_says_what_was_tried(
    server: Server, fault: Any, words: str
) -> None:
    server.faulty.script = [fault] * 10
    async with server.store(attempts=2) as store:
        with pytest.raises(Unavailable, match=words) as caught:
            await store.upsert("docs", numbered(1))
    assert server.faulty.calls == 2
    for fact in ("writing to 'docs'", server.url, "tried 2 times"):
        assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ((Code.INVALID_ARGUMENT, "Wrong input: dim"), Rejected, "Wrong input: dim"),
        ((Code.NOT_FOUND, "Not found: Collection `c`"), NotFound, "Collection"),
        ((Code.INVALID_ARGUMENT, "Collection `c` doesn't exist!"), NotFound, "doesn't exist"),
        ((Code.UNAUTHENTICATED, "key"), Rejected, "refuses our credentials"),
        ((Code.PERMISSION_DENIED, "read only"), Rejected, "refuses our credentials"),
        ((Code.UNIMPLEMENTED, "Upsert"), Rejected, "does not have this call"),
        ((Code.RESOURCE_EXHAUSTED, "message larger than max"), Rejected, "larger than max"),
    ],
)
async def test_refusal_is_final(
    server: Server, fault: Any, error: type[LedgerError], words: str
) -> None:
    server.faulty.script = [fault] * 10
    async with server.store() as store:
        with pytest.raises(error, match=words) as caught:
            await store.upsert("c", numbered(1))
    assert type(caught.value) is error
    assert server.url in str(caught.value)
    assert server.faulty.calls == 1


async def test_wait_that_the_server_asks_for_is_kept(server: Server) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    busy = (Code.RESOURCE_EXHAUSTED, "rate", ("retry-after", "7"))
    server.faulty.script = [busy, (Code.UNAVAILABLE, ""), (Code.UNAVAILABLE, "")]
    async with server.store() as store:
        store._calls._sleep = sleep
        await store.upsert("c", numbered(1))
        assert waits[0] == 7
        assert 0 <= waits[1] <= 0.2
        assert 0 <= waits[2] <= 0.4
        server.faulty.script = [(Code.RESOURCE_EXHAUSTED, "rate", ("retry-after", "3600"))]
        with pytest.raises(Unavailable):
            await store.upsert("c", numbered(1))
    assert len(waits) == 3


async def test_first_error_of_calls_in_flight_is_the_one_raised(server: Server) -> None:
    server.faulty.script = [(Code.INVALID_ARGUMENT, "no")] * 20
    async with server.store() as store:
        with pytest.raises(Rejected, match="no"):
            await store.upsert("c", numbered(3000))


async def test_key_is_sent_with_every_call(server: Server) -> None:
    async with server.store("secret") as store:
        await store.upsert("c", numbered(1))
    assert ("api-key", "secret") in [tuple(pair) for pair in server.faulty.metadata]


async def test_next_page_is_fetched_while_the_caller_works(server: Server) -> None:
    async with server.store(bulk_deadline=30) as store:
        pages = store.scan("c", page=1)
        server.faulty.pages.release()
        assert (await anext(pages)).keys == [key_of(0)]
        await asyncio.wait_for(server.faulty.second_page.wait(), 10)
        assert fetching()
        await pages.aclose()
        await asyncio.wait_for(server.faulty.cancelled.wait(), 10)
        assert not fetching()


async def test_cancelled_scan_leaves_no_task(server: Server) -> None:
    async with server.store(bulk_deadline=30) as store:

        async def consume() -> None:
            async for _ in store.scan("c", page=1):
                pass

        consumer = asyncio.create_task(consume())
        server.faulty.pages.release()
        await asyncio.wait_for(server.faulty.second_page.wait(), 10)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        await asyncio.wait_for(server.faulty.cancelled.wait(), 10)
        assert not fetching()


async def test_port_of_another_protocol_is_explained() -> None:
    async def rest(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(await asyncio.start_server(rest, "127.0.0.1"))
        port = listener.sockets[0].getsockname()[1]
        endpoint = Endpoint(f"http://127.0.0.1:{port}")
        store = QdrantStore(endpoint, random=SystemRandom(), deadline=0.5, attempts=2)
        await stack.enter_async_context(store)
        with pytest.raises(Unavailable, match="is this the gRPC port") as caught:
            await store.version()
    assert endpoint.url in str(caught.value)
    assert "reading the version" in str(caught.value)


async def test_server_without_the_call_is_explained(server: Server) -> None:
    async with server.store() as store:
        with pytest.raises(Rejected, match="is this the gRPC port"):
            await store.version()


def fetching() -> bool:
    coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
    return any(coroutine.__name__ == "fetch" for coroutine in coroutines)
