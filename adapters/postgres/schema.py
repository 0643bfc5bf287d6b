"""The tables of the ledger: numbered migrations, applied in order, each once."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from adapters.postgres.connection import SCHEMA, Database
from adapters.postgres.head_history import LACKS_PAST, complete_pasts
from domain.model.errors import Rejected, Unavailable

_TIMEOUT = 3600.0  # seconds, as a migration may have to rewrite a large table

# One upgrade at a time, whoever starts it.
_LOCK = """
SET LOCAL statement_timeout = 0;
SELECT pg_advisory_xact_lock(5569203478134)
"""

# The versions that a database has; made when the first upgrade runs.
_PREPARE = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.schema_versions (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
SET LOCAL search_path = {SCHEMA};
"""

_HAS_VERSIONS = f"SELECT to_regclass('{SCHEMA}.schema_versions') IS NOT NULL"

_VERSION = f"SELECT coalesce(max(version), 0) FROM {SCHEMA}.schema_versions"  # noqa: S608

_APPLIED = "INSERT INTO schema_versions (version, name) VALUES ({version}, '{name}');"


@dataclass(frozen=True)
class SchemaMigration:
    """One step of the schema.

    Attributes:
        version: its number, from 1 and dense.
        name: what it brings.
        sql: its statements.
    """

    version: int
    name: str
    sql: str


def migrations() -> list[SchemaMigration]:
    """All steps that this program knows, in order."""
    found = []
    for file in files("adapters.postgres").joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(SchemaMigration(int(number), name, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


async def upgrade(database: Database) -> list[SchemaMigration]:
    """Bring a database to this program's version; returns what was applied.

    Raises:
        Rejected: the database is newer than this program.
    """
    async with database.transaction() as connection:
        await connection.execute(_LOCK, timeout=_TIMEOUT)
        pending = await _pending(database, connection)
        if pending:
            await connection.execute(_script(pending), timeout=_TIMEOUT)
    await complete_pasts(database)
    return pending


async def pending_sql(database: Database | None) -> str:
    """What an upgrade would run, for an operator to read and run; all of it without a database.

    Raises:
        Rejected: the database is newer than this program.
    """
    if database is None:
        pending = migrations()
    else:
        async with database.connection() as connection:
            pending = await _pending(database, connection)
    if not pending:
        return ""
    return f"BEGIN;{_LOCK.rstrip()};\n{_script(pending)}\nCOMMIT;\n"


async def require_current(database: Database) -> None:
    """Check that a database has this program's version.

    Raises:
        Rejected: it is newer than this program.
        Unavailable: it has to be upgraded first.
    """
    async with database.connection() as connection:
        pending = await _pending(database, connection)
        behind = bool(pending) or await connection.fetchval(LACKS_PAST)
    if behind:
        raise Unavailable(f"the database {database.where} is not up to date; run `db upgrade`")


def _script(pending: list[SchemaMigration]) -> str:
    parts = [_PREPARE]
    for migration in pending:
        parts += [
            migration.sql,
            _APPLIED.format(version=migration.version, name=migration.name),
        ]
    return "\n".join(parts)


async def _pending(database: Database, connection: Any) -> list[SchemaMigration]:
    known = migrations()
    version = 0
    if await connection.fetchval(_HAS_VERSIONS):
        version = await connection.fetchval(_VERSION)
    if version > len(known):
        raise Rejected(
            f"the database {database.where} has schema version {version}, and this program knows "
            f"{len(known)}: use a newer program"
        )
    return known[version:]
