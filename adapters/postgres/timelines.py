"""Which history of which ledger a database has, and whether work is halted: one row."""

from collections.abc import Sequence
from typing import Any

import orjson

from adapters.postgres.appending import NotAppendedError, append_last, encode_command
from adapters.postgres.connection import Database
from domain.model.aggregate import Context, pending_events
from domain.model.recorded import Command
from domain.model.timeline import Finding, Halt, Standing, Timeline, summary

# The row.
_STANDING = "SELECT ledger, number, halted_since, findings FROM timeline"

# The same, until the transaction ends nobody else's.
_LOCK = f"{_STANDING} FOR UPDATE"

# Halt all work; the first time counts.
_HALT = """
UPDATE timeline SET
    halted_since = coalesce(halted_since, clock_timestamp()),
    reason = $1,
    findings = $2
"""

# Let work go on.
_RESUME = "UPDATE timeline SET halted_since = NULL, reason = NULL, findings = '[]'"

# Begin a history.
_BEGIN = "UPDATE timeline SET number = $1"

# Raise an error while work is halted.
_WORKING = "SELECT working()"


async def standing(database: Database) -> Standing:
    """Which ledger this is, on which timeline, and whether work is halted."""
    async with database.connection() as connection:
        return _standing(await connection.fetchrow(_STANDING))


async def halt(database: Database, findings: Sequence[Finding]) -> None:
    """Halt all work; what was found before in the same place stays as it was."""
    async with database.transaction() as connection:
        before = _standing(await connection.fetchrow(_LOCK)).halt
        known = {finding.where: finding for finding in before.findings} if before else {}
        merged = [*({finding.where: finding for finding in findings} | known).values()]
        merged.sort(key=lambda finding: finding.where)
        encoded = orjson.dumps([finding.to_json() for finding in merged]).decode()
        await connection.execute(_HALT, summary(merged), encoded)


async def working(database: Database) -> None:
    """Check that work may go on.

    Raises:
        Halted: it may not.
    """
    async with database.connection() as connection:
        await connection.execute(_WORKING)


class PostgresTimelines:
    """Implements `domain.ports.Timelines`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self, timeline: Timeline, context: Context) -> None:
        """Record the start of a timeline and make it the current one; again changes nothing."""
        key = f"timeline/{timeline.number}/start"
        await self._append(timeline, key, context, _BEGIN, timeline.number)

    async def finish(self, timeline: Timeline | None, context: Context) -> None:
        """Let work go on, and record what the timeline decided if there is one."""
        if timeline is None:
            async with self._database.connection() as connection:
                await connection.execute(_RESUME)
        else:
            key = f"timeline/{timeline.number}/finish"
            await self._append(timeline, key, context, _RESUME)

    async def _append(
        self, timeline: Timeline, key: str, context: Context, change: str, *values: Any
    ) -> None:
        """Change the row in the transaction of the events: both happened, or neither."""
        command = encode_command(Command(key, pending_events(timeline), context))
        try:
            async with self._database.transaction() as connection:
                await connection.execute(change, *values)
                await append_last(connection, command)
        except NotAppendedError as stopped:
            stopped.outcome.answer()  # raises, unless this was done before


def _standing(row: Any) -> Standing:
    halted = None
    if row["halted_since"] is not None:
        findings = tuple(Finding.from_json(one) for one in orjson.loads(row["findings"]))
        halted = Halt(row["halted_since"], findings)
    return Standing(str(row["ledger"]), row["number"], halted)
