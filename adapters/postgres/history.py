"""Events as they are stored, for people who ask what happened; nothing is upcast or left out."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from adapters.postgres.connection import Database
from adapters.postgres.mapper import plain_uuid
from domain.model.errors import Corrupt

_PAGE = 1000

_SELECT = """
SELECT position, stream, version, topic, state, context, recorded_at, hash FROM events
WHERE position > $1 AND position <= $2"""


@dataclass(frozen=True)
class Selection:
    """Which events are asked for.

    Attributes:
        stream: only of this stream.
        topics: only with topics that begin so.
    """

    stream: UUID | None = None
    topics: str = ""


@dataclass(frozen=True)
class StoredRecord:
    """A row of `events`.

    Attributes:
        position: in the ledger.
        recorded_at: by the database.
        stream: id of the aggregate.
        version: in the stream.
        topic: kind of event.
        state: fields of the event.
        context: who, why, in answer to what.
        hash: chained to the previous event's.
    """

    position: int
    recorded_at: datetime
    stream: UUID
    version: int
    topic: str
    state: dict[str, Any]
    context: dict[str, Any]
    hash: bytes

    def to_json(self) -> dict[str, Any]:
        """A document, its values as they were recorded."""
        return {
            "position": self.position,
            "recorded_at": self.recorded_at.isoformat(),
            "topic": self.topic,
            "stream": str(self.stream),
            "version": self.version,
            "context": self.context,
            "state": self.state,
            "hash": self.hash.hex(),
        }


async def latest(
    database: Database, selection: Selection, through: int, limit: int
) -> list[StoredRecord]:
    """The last events up to a position, oldest first."""
    return (await _read(database, selection, 0, through, limit, "DESC"))[::-1]


async def following(
    database: Database, selection: Selection, after: int, through: int
) -> AsyncIterator[StoredRecord]:
    """The events with positions in (after, through], read in pages."""
    while page := await _read(database, selection, after, through, _PAGE, "ASC"):
        for record in page:
            yield record
        after = page[-1].position


async def _read(
    database: Database, selection: Selection, after: int, through: int, limit: int, direction: str
) -> list[StoredRecord]:
    """Events of a selection, by the index that suits it."""
    asked: list[tuple[str, Any]] = []
    if selection.stream is not None:
        asked.append(("stream = ${}", selection.stream))
    if "." in selection.topics:
        asked.append(("split_part(topic, '.', 1) = ${}", selection.topics.partition(".")[0]))
    if selection.topics:
        asked.append(("starts_with(topic, ${})", selection.topics))
    conditions = "".join(
        f" AND {condition.format(number)}" for number, (condition, _) in enumerate(asked, 4)
    )
    order = "version" if selection.stream else "position"
    query = f"{_SELECT}{conditions} ORDER BY {order} {direction} LIMIT $3"
    async with database.connection() as connection:
        rows = await connection.fetch(query, after, through, limit, *(one for _, one in asked))
    return [_record(row) for row in rows]


def _record(row: Any) -> StoredRecord:
    return StoredRecord(
        position=row["position"],
        recorded_at=row["recorded_at"],
        stream=plain_uuid(row["stream"]),
        version=row["version"],
        topic=row["topic"],
        state=_document(row["position"], row["state"]),
        context=_document(row["position"], row["context"]),
        hash=row["hash"],
    )


def _document(position: int, encoded: bytes) -> dict[str, Any]:
    try:
        document: dict[str, Any] = orjson.loads(encoded)
    except orjson.JSONDecodeError as error:
        raise Corrupt(
            f"event {position} is not JSON; `log verify` says whether it was changed"
        ) from error
    return document
