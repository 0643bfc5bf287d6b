"""What is found of planted points in everything that servers and archives keep."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq

from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import CHANGES, EVENTS
from domain.model.bodies import decode_body
from tests.contract.kafka_events import messages

PARQUET = b"PAR1"

LONG_ENOUGH = 32
"""Bytes that are nowhere by chance."""


@dataclass(frozen=True)
class Planted:
    """Bytes that nothing else has.

    Attributes:
        text: in a payload.
        vector: little-endian float32, as every store and object keeps it.
    """

    text: bytes
    vector: bytes

    def within(self, content: bytes) -> set[str]:
        """What of it is there, in bytes as they are or in those of an object."""
        found = {
            name
            for name, part in vars(self).items()
            if any(piece in content for piece in _pieces(part))
        }
        if content[:4] == PARQUET:
            found |= self._decoded(content)
        return found

    def _decoded(self, content: bytes) -> set[str]:
        table = pq.ParquetFile(pa.BufferReader(content)).read()
        if "payload" in table.column_names:
            points = decode_body(content)
            columns = [points.payloads, *points.vectors.values()]
        elif "content" in table.column_names:  # small objects in an archive
            columns = []
            inner = (self.within(one) for one in table.column("content").to_pylist())
            return set().union(*inner)
        else:
            return set()
        parts = [value for column in columns for value in column if value is not None]
        return {name for name, part in vars(self).items() if any(part in v for v in parts)}

    def in_files(self, folder: Path) -> dict[str, set[str]]:
        """What is in the files of a folder, by the first folder below it."""
        found: dict[str, set[str]] = {}
        for file, content in _files(folder):
            where = file.relative_to(folder).parts[0]
            found.setdefault(where, set()).update(self.within(content))
        return {where: kinds for where, kinds in found.items() if kinds}

    async def in_database(self, url: str) -> set[str]:
        """What is in the objects of the database, as it answers."""
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("SELECT content FROM migration_ledger.objects")
        finally:
            await connection.close()
        return self._in_any(row["content"] for row in rows)

    async def in_topics(self, bootstrap: str) -> set[str]:
        """What is in any message of our topics."""
        settings = KafkaSettings.embedded(bootstrap)
        found = set[str]()
        for spec in (EVENTS, CHANGES):
            records = await messages(settings, spec)
            assert records
            found |= self._in_any(record.value for record in records)
        return found

    async def anywhere(self, folder: Path) -> dict[str, set[str]]:
        """As `in_files`, without stopping others."""
        return await asyncio.to_thread(self.in_files, folder)

    def _in_any(self, contents: Iterable[bytes]) -> set[str]:
        return set().union(*(self.within(content) for content in contents))


def _files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                yield path, path.read_bytes()
        except FileNotFoundError:  # a server removed it meanwhile
            continue


def _pieces(part: bytes) -> list[bytes]:
    """Halves of what is long: a database may cut it in two, and keep other bytes in between."""
    half = len(part) // 2
    return [part[:half], part[half:]] if half >= LONG_ENOUGH else [part]
