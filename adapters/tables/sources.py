"""The `sources` table of an application, in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import orjson

from adapters.transactions import LOST, transaction
from domain.model.errors import LedgerError, NotFound, Rejected, Unavailable
from domain.model.recipes.recipe import SourceRow

# The server could not do it now, for a reason that passes.
_BUSY = (
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,
)

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 60.0

COLUMNS = {
    "id": "the source's id",
    "title": "the source's title",
    "enabled_collections": "its collection types",
    "collection_names": "the JSONB of stored names",
}
"""Columns that a migration needs, and what they hold."""

SQL_COLUMNS = """
SELECT attname::text, format_type(atttypid, NULL) AS type
FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""
"""Columns of a table and their types; no rows if there is no such table."""

SQL_ROWS = """
SELECT id::text, title, to_jsonb(enabled_collections)::text AS types,
  collection_names::text AS names
FROM {table} ORDER BY id
"""
"""All sources, with arrays and JSON as text, so that they come back as they are."""

SQL_REPLACE = """
UPDATE {table} SET collection_names = $3::{type}
WHERE id::text = $1 AND (
  collection_names::jsonb IS NOT DISTINCT FROM $2::jsonb
  OR collection_names::jsonb IS NOT DISTINCT FROM $3::jsonb)
"""
"""Set one row, unless somebody changed it to something else."""

SQL_NAMES = "SELECT collection_names::text FROM {table} WHERE id::text = $1"
"""What one row holds."""

SQL_DIGEST = "SELECT to_jsonb(t)::text FROM {table} t ORDER BY id"
"""Every column of every row in one canonical text each."""


class PostgresSourceTable:
    """Reads and restructures one table; a connection is opened for each operation."""

    def __init__(self, url: str, table: str) -> None:
        """Name a table, optionally with its schema, in the database of a URL."""
        self._url = url
        self._table = table
        self._where = _where(url)
        self._quoted = ".".join(_quoted(part) for part in table.split("."))

    async def rows(self) -> list[SourceRow]:
        """All rows in id order.

        Raises:
            NotFound: the table, or a column that the migration needs, does not exist.
        """
        async with self._connected() as connection:
            await self._columns(connection)
            found = await connection.fetch(SQL_ROWS.format(table=self._quoted))
        return [
            SourceRow(
                id=row["id"],
                title=row["title"] or "",
                types=_types(row["id"], row["types"]),
                names=_names(row["names"]),
                raw_names=row["names"],
            )
            for row in found
        ]

    async def replace_names(
        self, changes: Mapping[str, tuple[str | None, str | None]]
    ) -> dict[str, str | None]:
        """Set `collection_names` of rows, in one transaction, where they hold what is expected.

        Returns rows left alone because they hold something else, or are gone; if there is one,
        the others of this call are changed nevertheless.
        """
        left: dict[str, str | None] = {}
        async with self._transaction() as connection:
            columns = await self._columns(connection)
            replace = SQL_REPLACE.format(table=self._quoted, type=columns["collection_names"])
            for row, (expected, new) in changes.items():
                if await connection.execute(replace, row, expected, new) == "UPDATE 0":
                    left[row] = await connection.fetchval(SQL_NAMES.format(table=self._quoted), row)
        return left

    async def digest(self) -> str:
        """SHA-256 over all rows and columns, in id order, in hexadecimal."""
        digest = sha256()
        async with self._transaction() as connection:
            async for row in connection.cursor(SQL_DIGEST.format(table=self._quoted)):
                text = row[0].encode()
                digest.update(len(text).to_bytes(4, "big") + text)
        return digest.hexdigest()

    async def _columns(self, connection: Any) -> dict[str, str]:
        found = {row[0]: row[1] for row in await connection.fetch(SQL_COLUMNS, self._quoted)}
        if not found:
            raise NotFound(f"table {self._table!r} does not exist in {self._where}")
        for column, meaning in COLUMNS.items():
            if column not in found:
                raise NotFound(
                    f"table {self._table!r} in {self._where} has no column {column!r} ({meaning}); "
                    "add it before this migration, nothing was touched"
                )
        if found["collection_names"] not in {"jsonb", "json"}:
            raise Rejected(
                f"column collection_names of {self._table!r} is {found['collection_names']}, "
                "not jsonb"
            )
        return found

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        try:
            connection = await asyncpg.connect(
                self._url, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS
            )
        except (OSError, asyncpg.PostgresError) as error:
            raise Unavailable(f"database {self._where} cannot be reached: {error}") from error
        try:
            yield connection
        except asyncio.CancelledError:
            # An orderly end would wait for a server that may hang.
            connection.terminate()
            raise
        except LedgerError:
            raise
        except (OSError, asyncpg.InterfaceError, *LOST, *_BUSY) as error:
            connection.terminate()
            raise Unavailable(f"database {self._where} went away: {error}") from error
        except asyncpg.PostgresError as error:
            raise Rejected(f"database {self._where} refuses: {error.args[0]}") from error
        finally:
            if not connection.is_closed():
                with suppress(TimeoutError, OSError):  # what was asked for is done
                    await connection.close(timeout=CONNECT_SECONDS)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        async with self._connected() as connection, transaction(connection):
            yield connection


def _where(url: str) -> str:
    """Host, port and database of a URL, without its user and password."""
    parts = urlsplit(url)
    try:
        port = parts.port or 5432
    except ValueError:
        # The cause would quote a part of the URL, which may be one of the password.
        raise Rejected(
            "a connection's URL is malformed; in its password write #, / and ? as %23, %2F, %3F"
        ) from None
    return f"{parts.hostname}:{port}{parts.path}"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _types(source: str, text: str | None) -> tuple[str, ...]:
    types = orjson.loads(text) if text is not None else []
    if not isinstance(types, list):
        raise Rejected(
            f"source {source} has enabled_collections {text}, not a list of collection types"
        )
    return tuple(str(kind) for kind in types)


def _names(text: str | None) -> dict[str, str] | None:
    """The stored names; None if they are not an object of type to name."""
    if text is None:
        return {}
    names = orjson.loads(text)
    if isinstance(names, dict) and all(isinstance(name, str) for name in names.values()):
        return names
    return None
