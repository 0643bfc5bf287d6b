"""The user's own application before any migration: a table of sources and two shared collections.

It plays a program that knows nothing of the ledger, so it writes to PostgreSQL and to Qdrant
directly.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import numpy as np
from numpy.typing import NDArray

from adapters.cli.demo.corpus import Chunk, Corpus, build_corpus
from adapters.cli.demo.sources import CODE, DOCUMENTS, Source
from adapters.embedders.lsa import LsaModel
from adapters.qdrant_grpc import qdrant
from domain.model.errors import Conflict, Unavailable

COLLECTIONS = {DOCUMENTS: "shared_docs", CODE: "shared_code"}
DIMENSIONS = {DOCUMENTS: 128, CODE: 192}
SCHEMA = "knowledge_base"
BATCH = 250
IN_FLIGHT = 3
DEADLINE = 60.0

# The generated classes have no types.
_CollectionsStub: Any = qdrant.CollectionsStub
_PointsStub: Any = qdrant.PointsStub

# (stage, done, total): called as each stage goes on.
Progress = Callable[[str, int, int], None]

# The application's table, as its own migrations would have made it.
_CREATE_SOURCES = """
CREATE TABLE {schema}.sources (
    id uuid PRIMARY KEY,
    title text NOT NULL,
    enabled_collections text[] NOT NULL,
    collection_names jsonb NOT NULL DEFAULT '{{}}',
    created_at timestamptz NOT NULL DEFAULT now(),
    status text
)
"""

# One source.
_INSERT_SOURCE = """
INSERT INTO {schema}.sources (id, title, enabled_collections, collection_names, status)
VALUES ($1, $2, $3, $4, 'active')
"""


@dataclass(frozen=True)
class KnowledgeBase:
    """What was loaded.

    Attributes:
        schema: the PostgreSQL schema with the table `sources`.
        sources: the rows of the table.
        collections: type to its shared collection.
        dimensions: type to the length of its vectors.
        points: type to its number of points.
        models: type to the file of its fitted model.
        seconds: stage to how long it took.
    """

    schema: str
    sources: tuple[Source, ...]
    collections: Mapping[str, str]
    dimensions: Mapping[str, int]
    points: Mapping[str, int]
    models: Mapping[str, Path]
    seconds: dict[str, float] = field(compare=False)


async def load_knowledge_base(
    database_url: str,
    qdrant_grpc_host: str,
    qdrant_grpc_port: int,
    progress: Progress,
    *,
    models_folder: Path,
    schema: str = SCHEMA,
    dimensions: Mapping[str, int] = DIMENSIONS,
) -> KnowledgeBase:
    """Build the application's data: the table, both models, both collections with all points.

    Args:
        database_url: PostgreSQL, `postgresql://…`.
        qdrant_grpc_host: host of Qdrant.
        qdrant_grpc_port: its gRPC port.
        progress: called with stage, done and total.
        models_folder: where the fitted models are saved, one file a type.
        schema: where the table is made.
        dimensions: type to the length of its vectors.

    Returns:
        What was loaded, with the seconds of each stage.

    Raises:
        Conflict: the table or a collection is already there.
        Unavailable: PostgreSQL or Qdrant did not answer, or refused an operation.
    """
    seconds: dict[str, float] = {}
    models: dict[str, Path] = {}
    started = time.perf_counter()

    def finished(stage: str) -> None:
        nonlocal started
        now = time.perf_counter()
        seconds[stage] = now - started
        started = now

    progress("read", 0, 1)
    corpus = await asyncio.to_thread(build_corpus)
    progress("read", 1, 1)
    finished("read")
    await _create_sources(database_url, schema, corpus.sources)
    finished("sources")
    async with _channel(qdrant_grpc_host, qdrant_grpc_port) as channel:
        for kind, collection in COLLECTIONS.items():
            await _create_collection(channel, collection, dimensions[kind])
        finished("collections")
        for kind, collection in COLLECTIONS.items():
            chunks = corpus.chunks[kind]
            models[kind] = models_folder / f"{kind}.npz"
            progress(f"embed {kind}", 0, len(chunks))
            vectors = await asyncio.to_thread(
                _fit_and_embed, chunks, dimensions[kind], models[kind]
            )
            progress(f"embed {kind}", len(chunks), len(chunks))
            finished(f"embed {kind}")
            await _upsert(channel, collection, chunks, vectors, progress)
            finished(f"upsert {kind}")
    return KnowledgeBase(
        schema=schema,
        sources=corpus.sources,
        collections=COLLECTIONS,
        dimensions=dict(dimensions),
        points=_counts(corpus),
        models=models,
        seconds=seconds,
    )


async def drop_knowledge_base(
    database_url: str, qdrant_grpc_host: str, qdrant_grpc_port: int, *, schema: str = SCHEMA
) -> None:
    """Remove the table and both shared collections, so that they can be loaded again.

    The schema itself stays, and so does everything else in it. What is not there is no error.

    Args:
        database_url: PostgreSQL, `postgresql://…`.
        qdrant_grpc_host: host of Qdrant.
        qdrant_grpc_port: its gRPC port.
        schema: where the table is.

    Raises:
        Unavailable: PostgreSQL or Qdrant did not answer.
    """
    async with _database(database_url) as connection:
        await connection.execute(f"DROP TABLE IF EXISTS {_quoted(schema)}.sources")
    async with _channel(qdrant_grpc_host, qdrant_grpc_port) as channel:
        stub = _CollectionsStub(channel)
        for collection in COLLECTIONS.values():
            await stub.Delete(qdrant.DeleteCollection(collection_name=collection), timeout=DEADLINE)


def _counts(corpus: Corpus) -> dict[str, int]:
    return {kind: len(chunks) for kind, chunks in corpus.chunks.items()}


def _quoted(identifier: str) -> str:
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[Any]:
    """A connection to PostgreSQL, with its driver's errors translated."""
    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError) as exc:
        raise Unavailable(f"PostgreSQL did not take a connection: {exc}") from exc
    try:
        yield connection
    except asyncpg.DuplicateTableError as exc:
        raise Conflict("there is already a knowledge base here; drop it first") from exc
    except (OSError, asyncpg.PostgresError) as exc:
        raise Unavailable(f"PostgreSQL refused an operation: {exc}") from exc
    finally:
        await connection.close()


@asynccontextmanager
async def _channel(host: str, port: int) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to Qdrant, with its driver's errors translated."""
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        try:
            yield channel
        except grpc.aio.AioRpcError as exc:
            if exc.code() == grpc.StatusCode.ALREADY_EXISTS or "already exists" in exc.details():
                raise Conflict(f"{exc.details()}; drop the knowledge base first") from exc
            raise Unavailable(f"Qdrant: {exc.code().name}: {exc.details()}") from exc


async def _create_sources(url: str, schema: str, sources: Sequence[Source]) -> None:
    """Make the table and its rows, in one transaction."""
    quoted = _quoted(schema)
    rows = [
        (s.id, s.title, list(s.enabled_collections), json.dumps(s.collection_names))
        for s in sources
    ]
    async with _database(url) as connection, connection.transaction():
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        await connection.execute(_CREATE_SOURCES.format(schema=quoted))
        await connection.executemany(_INSERT_SOURCE.format(schema=quoted), rows)


async def _create_collection(channel: grpc.aio.Channel, name: str, dimension: int) -> None:
    """Make a cosine collection with a keyword index on `source_id`."""
    parameters = qdrant.VectorParams(size=dimension, distance=qdrant.Distance.Cosine)
    await _CollectionsStub(channel).Create(
        qdrant.CreateCollection(
            collection_name=name, vectors_config=qdrant.VectorsConfig(params=parameters)
        ),
        timeout=DEADLINE,
    )
    await _PointsStub(channel).CreateFieldIndex(
        qdrant.CreateFieldIndexCollection(
            collection_name=name,
            field_name="source_id",
            field_type=qdrant.FieldType.FieldTypeKeyword,
            wait=True,
        ),
        timeout=DEADLINE,
    )


def _fit_and_embed(
    chunks: Sequence[Chunk], dimension: int, model_file: Path
) -> NDArray[np.float32]:
    """Fit and save a model; the vectors are `(len(chunks), dimension)`, unit length."""
    texts = [chunk.text for chunk in chunks]
    model = LsaModel.fit(texts, dimension)
    model.save(model_file)
    return model.embed(texts)


async def _upsert(
    channel: grpc.aio.Channel,
    collection: str,
    chunks: Sequence[Chunk],
    vectors: NDArray[np.float32],
    progress: Progress,
) -> None:
    """Write all points, `IN_FLIGHT` batches at a time.

    The generated stub takes the points that numpy rows are copied into; the client would convert
    each number by itself.
    """
    stub = _PointsStub(channel)
    batches: Iterator[int] = iter(range(0, len(chunks), BATCH))
    done = 0

    async def write() -> None:
        nonlocal done
        for start in batches:
            points = [
                _point(chunk, vector)
                for chunk, vector in zip(
                    chunks[start : start + BATCH], vectors[start : start + BATCH], strict=True
                )
            ]
            request = qdrant.UpsertPoints(collection_name=collection, points=points, wait=True)
            answer = await stub.Upsert(request, timeout=DEADLINE)
            if answer.result.status != qdrant.UpdateStatus.Completed:
                raise Unavailable(f"Qdrant did not complete an upsert into {collection}")
            done += len(points)
            progress(f"upsert {collection}", done, len(chunks))

    # Not a task group: the caller gets the first error itself, which the channel translates.
    writers = [asyncio.ensure_future(write()) for _ in range(IN_FLIGHT)]
    try:
        await asyncio.gather(*writers)
    finally:
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)


def _point(chunk: Chunk, vector: NDArray[np.float32]) -> qdrant.PointStruct:
    payload = asdict(chunk)
    point_id = payload.pop("id")
    return qdrant.PointStruct(
        id=qdrant.PointId(num=point_id)
        if isinstance(point_id, int)
        else qdrant.PointId(uuid=point_id),
        vectors=qdrant.Vectors(vector=qdrant.Vector(dense=qdrant.DenseVector(data=vector))),
        payload={name: _value(value) for name, value in payload.items()},
    )


def _value(value: str | int) -> qdrant.Value:
    if isinstance(value, str):
        return qdrant.Value(string_value=value)
    return qdrant.Value(integer_value=value)
