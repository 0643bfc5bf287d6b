"""What of a ledger cannot be derived, as it is stored: events, answers to commands, objects."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from adapters.postgres.connection import NO_IDLE_TIMEOUT, NO_TIMEOUT, SCHEMA, Database
from adapters.postgres.deriving import derive
from adapters.postgres.garbage import mark_collected
from adapters.postgres.head_history import complete_pasts
from adapters.postgres.objects import present_addresses, put_objects, stored_rows
from adapters.postgres.reading import HASH
from domain.model.erasure import Erasure
from domain.model.errors import Conflict
from domain.model.recorded import Cursor
from domain.model.timeline import Finding

PAGE = 5000
_TIMEOUT = 3600.0  # seconds, as everything is written in one transaction

EVENT_COLUMNS = (
    *("position", "stream", "version", "topic", "state", "context", "recorded_at", "hash"),
)
_ANSWER_COLUMNS = ("key", "request_hash", "position", "count")

# The next events, as they are stored.
_EVENTS = f"""
SELECT {", ".join(EVENT_COLUMNS)} FROM events
WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
"""  # noqa: S608

# Answers to commands whose events begin in a range of positions.
_ANSWERS = f"""
SELECT {", ".join(_ANSWER_COLUMNS)} FROM commands
WHERE position > $1 AND position <= $2 ORDER BY position, key
"""  # noqa: S608

# Former addresses of bodies that erasures have rewritten.
_REWRITTEN = "SELECT address FROM rewritten WHERE address > $1 ORDER BY address LIMIT $2"

# Whether bodies were rewritten after a position.
_REWRITTEN_SINCE = f"""
SELECT EXISTS (
    SELECT FROM events WHERE split_part(topic, '.', 1) = '{Erasure.TOPIC}'
        AND topic = '{Erasure.ObjectsRewritten.TOPIC}' AND position > $1
)
"""  # noqa: S608

# Nobody may append while a ledger is loaded: what it finds empty must stay so.
_LOCK = "SELECT pg_advisory_xact_lock(5569203478133)"

# Whether a ledger has nothing yet.
_EMPTY = """
SELECT position = 0 AND NOT EXISTS (SELECT FROM events) AND NOT EXISTS (SELECT FROM commands)
FROM tip
"""

# Where the ledger ends.
_MOVE_TIP = "UPDATE tip SET position = $1, hash = $2, recorded_at = $3"

# Which ledger it is, and that work waits.
_BECOME = """
UPDATE timeline SET
    ledger = $1, number = $2, halted_since = clock_timestamp(), reason = $3, findings = $4
"""


@dataclass(frozen=True)
class StoredAnswer:
    """What a command was answered.

    Attributes:
        key: its idempotency key.
        request_hash: SHA-256 of what was asked for.
        position: of its first event, 0 if it came to none.
        count: number of its events.
    """

    key: str
    request_hash: bytes
    position: int
    count: int


async def stored_events(
    database: Database, after: int, through: int
) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """Events with positions in (after, through], in pages."""
    while True:
        async with database.connection() as connection:
            rows = await connection.fetch(_EVENTS, after, through, PAGE)
        if not rows:
            return
        yield rows
        after = rows[-1]["position"]


async def stored_answers(
    database: Database, after: int, through: int
) -> AsyncIterator[list[StoredAnswer]]:
    """Answers to commands whose first event is in (after, through], in pages.

    A connection is held until the last page.
    """
    async with database.transaction() as connection:
        await connection.execute(NO_TIMEOUT)
        cursor = await connection.cursor(_ANSWERS, after, through, timeout=_TIMEOUT)
        while rows := await cursor.fetch(PAGE, timeout=_TIMEOUT):
            yield [StoredAnswer(*row) for row in rows]


async def stored_objects(database: Database, addresses: Sequence[str]) -> dict[str, bytes]:
    """Those of these objects that are rows, by address; unchecked."""
    async with database.connection() as connection:
        return await stored_rows(connection, addresses)


async def present_bodies(database: Database, addresses: Sequence[str]) -> dict[str, str]:
    """Where bodies are that were rewritten, by the addresses that they had before."""
    async with database.connection() as connection:
        return await present_addresses(connection, addresses)


async def rewritten_bodies(database: Database) -> AsyncIterator[list[str]]:
    """The addresses that bodies had before they were rewritten, in pages."""
    after = b""
    while True:
        async with database.connection() as connection:
            rows = await connection.fetch(_REWRITTEN, after, PAGE)
        if not rows:
            return
        yield [row["address"].hex() for row in rows]
        after = rows[-1]["address"]


async def rewritten_since(database: Database, position: int) -> bool:
    """Whether an erasure has rewritten bodies after a position."""
    async with database.connection() as connection:
        since: bool = await connection.fetchval(_REWRITTEN_SINCE, position)
    return since


async def has(database: Database, cursor: Cursor) -> bool:
    """Whether the ledger has this event with this hash."""
    async with database.connection() as connection:
        found = await connection.fetchval(HASH, cursor.position)
    return cursor == Cursor() or found == cursor.hash


async def is_empty(database: Database) -> bool:
    """Whether nothing was ever recorded."""
    async with database.connection() as connection:
        empty: bool = await connection.fetchval(_EMPTY)
    return empty


class Loading:
    """Fills an empty ledger, within a transaction of its own."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def begin(self) -> None:
        """Let nobody else write.

        Raises:
            Conflict: there is something already.
        """
        await self._connection.execute(NO_TIMEOUT)
        await self._connection.execute(NO_IDLE_TIMEOUT)  # it waits for files
        await self._connection.execute(_LOCK, timeout=_TIMEOUT)
        if not await self._connection.fetchval(_EMPTY):
            raise Conflict("the ledger is not empty any more; nothing was loaded")

    async def add_events(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add events, their columns in the order in which they are stored."""
        await self._copy("events", EVENT_COLUMNS, rows)

    async def add_answers(self, rows: Iterable[StoredAnswer]) -> None:
        """Add answers."""
        await self._copy("commands", _ANSWER_COLUMNS, map(astuple, rows))

    async def add_objects(self, contents: Mapping[str, bytes]) -> None:
        """Add small objects by address."""
        await put_objects(self._connection, contents)

    async def finish(self, ledger: str, head: Cursor, recorded_at: datetime, why: str) -> None:
        """Derive what can be derived but the heads of points, and let work wait.

        Args:
            ledger: its id.
            head: the last event.
            recorded_at: when it was recorded.
            why: work waits until somebody recovers, in a sentence without its end.
        """
        await self._connection.execute(_MOVE_TIP, head.position, head.hash, recorded_at)
        timeline = await derive(self._connection)
        finding = Finding("the archive", 0, "", timeline, why)
        findings = orjson.dumps([finding.to_json()]).decode()
        await self._connection.execute(_BECOME, UUID(ledger), timeline, why, findings)

    async def _copy(
        self, table: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]
    ) -> None:
        await self._connection.copy_records_to_table(
            table, schema_name=SCHEMA, columns=columns, records=rows, timeout=_TIMEOUT
        )


async def load_heads(database: Database) -> None:
    """Make the heads of points from their change sets; again goes on where it was."""
    await complete_pasts(database)
    await mark_collected(database)
