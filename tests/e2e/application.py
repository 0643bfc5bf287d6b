"""An application with a table of sources and shared collections, as a user has it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import numpy as np
import yaml
from qdrant_client import AsyncQdrantClient, models

SOURCES = ("Réseau & Internet", "C'est la vie", "AI Knowledge")
DIMENSIONS = {"documents": 16, "code": 24}


@dataclass(frozen=True)
class Application:
    """Where it is.

    Attributes:
        name: begins the names of its table and collections, so that several share the servers.
        database_url: its PostgreSQL.
        qdrant: a client of its Qdrant.
        ids: source ids by title.
    """

    name: str
    database_url: str
    qdrant: AsyncQdrantClient
    ids: dict[str, str]

    @property
    def table(self) -> str:
        """Its table of sources."""
        return f"{self.name}_sources"

    @property
    def shared(self) -> dict[str, str]:
        """Type to shared collection."""
        return {kind: f"{self.name}_shared_{kind}" for kind in DIMENSIONS}

    def title(self, title: str) -> str:
        """A title as its table has it."""
        return f"{self.name} {title}"

    async def names(self) -> dict[str, str | None]:
        """`collection_names` of every source as text."""
        connection = await asyncpg.connect(self.database_url)
        try:
            rows = await connection.fetch(
                f"SELECT title, collection_names::text AS names FROM {self.table} ORDER BY title"  # noqa: S608
            )
        finally:
            await connection.close()
        return {row["title"]: row["names"] for row in rows}

    async def execute(self, statement: str, *values: Any) -> None:
        """Run a statement."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(statement, *values)
        finally:
            await connection.close()

    async def points(self, collection: str) -> dict[Any, Any]:
        """Every point of a collection: id to payload and vector."""
        records, _ = await self.qdrant.scroll(
            collection, limit=100_000, with_payload=True, with_vectors=True
        )
        return {record.id: (record.payload, record.vector) for record in records}

    async def snapshot(self) -> dict[str, Any]:
        """Every point of the shared collections."""
        return {name: await self.points(name) for name in self.shared.values()}

    async def collections(self) -> set[str]:
        """Physical names that are its own."""
        found = await self.qdrant.get_collections()
        return {c.name for c in found.collections if c.name.startswith(self.name)}


def client(url: str) -> AsyncQdrantClient:
    """A client of an endpoint that speaks gRPC only."""
    parts = urlsplit(url)
    return AsyncQdrantClient(
        host=parts.hostname, grpc_port=parts.port or 0, prefer_grpc=True, check_compatibility=False
    )


async def build(
    name: str, database_url: str, qdrant_url: str, *, points: int, seed: int = 7
) -> Application:
    """Make the table, with gaps in the names, and fill both shared collections."""
    random = Random(seed)
    ids = {title: str(uuid.UUID(int=random.getrandbits(128), version=4)) for title in SOURCES}
    application = Application(name, database_url, client(qdrant_url), ids)
    await application.execute(
        f"CREATE TABLE {application.table} (id uuid PRIMARY KEY, title text NOT NULL, "
        "enabled_collections text[] NOT NULL, collection_names jsonb)"
    )
    for number, (title, source) in enumerate(ids.items()):
        names = f'{{"documents": "{name}-Stored.docs"}}' if number == 1 else None
        await application.execute(
            f"INSERT INTO {application.table} VALUES ($1, $2, $3, $4)",  # noqa: S608
            source,
            application.title(title),
            ["documents", "code"],
            names,
        )
    for kind, dimension in DIMENSIONS.items():
        await application.qdrant.create_collection(
            application.shared[kind],
            vectors_config=models.VectorParams(size=dimension, distance=models.Distance.COSINE),
        )
        shared = application.shared[kind]
        await _fill(application, shared, dimension, points, list(ids.values()), seed)
    return application


async def _fill(
    application: Application,
    name: str,
    dimension: int,
    points: int,
    sources: Sequence[str],
    seed: int,
) -> None:
    vectors = np.random.default_rng(seed).standard_normal((points, dimension))
    random = Random(seed)
    structs = [
        models.PointStruct(
            id=number if number % 3 else str(uuid.UUID(int=random.getrandbits(128), version=4)),
            vector=vectors[number].tolist(),
            payload={
                "source_id": sources[number % len(sources)],
                "text": f"text {number}",
                "n": number,
            },
        )
        for number in range(1, points)
    ]
    for start in range(0, len(structs), 500):
        await application.qdrant.upsert(name, structs[start : start + 500], wait=True)


def write_spec(application: Application, folder: Path, **changes: Any) -> Path:
    """A spec file that splits both shared collections."""
    spec: dict[str, Any] = {
        "version": 1,
        "name": application.name,
        "recipe": "per-domain-collections",
        "reason": "domain isolation",
        "from": {
            "connection": "default",
            "table": application.table,
            "store": "default",
            "collections": application.shared,
        },
        "to": {"store": "default"},
        "batch": {"size": 100},
        **changes,
    }
    path = folder / f"{spec['name']}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path
