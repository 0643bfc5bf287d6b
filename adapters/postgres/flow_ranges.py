"""The queue of ranges that flow workers claim."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from adapters.postgres.connection import Database
from adapters.postgres.mapper import plain_uuid
from domain.ports import RangeClaim

PAUSE_SECONDS = 0.1
"""Between two ranges that read the changes of one source, so that the next one finds several."""
BACKLOG = 50
"""Changes that are enough for a range without a pause."""

# Enter a flow, once; nothing comes back the second time.
_ENTER = """
INSERT INTO flows (flow, next_number, source, until) VALUES ($1, $2, $3, $4)
ON CONFLICT (flow) DO NOTHING RETURNING next_number
"""

# How many changes of its source a flow has not read.
_BEHIND = """
SELECT g.recorded - $2 FROM flows f JOIN generations g ON g.stream = f.source WHERE f.flow = $1
"""

# Put ranges into the queue, numbered in order; they are free after so many seconds.
_PUT_IN = """
INSERT INTO flow_ranges (flow, number, request, free_at)
SELECT $1, $2 + u.ordinal::int - 1, u.request, clock_timestamp() + make_interval(secs => $4)
FROM unnest($3::jsonb[]) WITH ORDINALITY AS u (request, ordinal)
"""

# Whether there is something to read: of the changes of a source some, unless the flow rests.
_DUE = """(
    NOT r.request ? 'since' OR EXISTS (
        SELECT FROM flows f JOIN generations g ON g.stream = f.source
        WHERE f.flow = r.flow AND g.recorded > (r.request ->> 'since')::int
            AND coalesce(f.until > now(), true)
    )
)"""

# Claim the range that has been free for longest, past those that others are just claiming.
_CLAIM = f"""
WITH free AS (
    SELECT r.flow, r.number FROM flow_ranges r
    WHERE working() AND r.free_at <= now() AND {_DUE}
    ORDER BY r.free_at, r.number LIMIT 1 FOR UPDATE OF r SKIP LOCKED
)
UPDATE flow_ranges r SET
    attempt = r.attempt + 1,
    holder = $1,
    free_at = clock_timestamp() + make_interval(secs => $2)
FROM free f WHERE r.flow = f.flow AND r.number = f.number
RETURNING r.flow, r.number, r.request, r.attempt
"""  # noqa: S608

# Extend a lease that nobody else took.
_RENEW = """
UPDATE flow_ranges SET free_at = clock_timestamp() + make_interval(secs => $5)
WHERE flow = $1 AND number = $2 AND attempt = $3 AND holder = $4
RETURNING number
"""

# Take a range out of the queue; whoever finishes it first does so.
_TAKE_OUT = "DELETE FROM flow_ranges WHERE flow = $1 AND number = $2 RETURNING number"

# The number of the range that follows.
_NEXT_NUMBER = """
UPDATE flows SET next_number = next_number + 1 WHERE flow = $1 RETURNING next_number - 1
"""

# Give a range back, to be tried again later after each failure.
_PUT_BACK = """
UPDATE flow_ranges SET
    failures = failures + $7,
    error = $4,
    holder = NULL,
    free_at = clock_timestamp() + make_interval(secs => least($5 * 2 ^ least(failures, 30), $6))
WHERE flow = $1 AND number = $2 AND attempt = $3
"""

# Forget the failures of the ranges of a flow; those that nobody works on are free at once.
_WAKE = """
UPDATE flow_ranges SET
    failures = 0,
    error = NULL,
    free_at = CASE WHEN holder IS NULL THEN least(free_at, clock_timestamp()) ELSE free_at END
WHERE flow = $1
"""

# Until when a flow follows its source.
_UNTIL = "UPDATE flows SET until = $2 WHERE flow = $1"

# The first range of a flow in the queue.
_NEXT = "SELECT number, request FROM flow_ranges WHERE flow = $1 ORDER BY number LIMIT 1"

# How many ranges are to be worked on.
_REMAINING = f"SELECT count(*) FROM flow_ranges r WHERE ($1::uuid IS NULL OR flow = $1) AND {_DUE}"  # noqa: S608

# Why the range that failed most often failed last.
_FAILING = """
SELECT error FROM flow_ranges WHERE flow = $1 AND failures >= $2
ORDER BY failures DESC, number LIMIT 1
"""

# The last range of a flow that was put in.
_LAST = "SELECT next_number - 1 FROM flows WHERE flow = $1"

# Flows that read a generation and are not through.
_READERS = """
SELECT DISTINCT f.flow FROM flows f JOIN flow_ranges r ON r.flow = f.flow WHERE f.source = $1
"""

# Take all ranges of a flow out of the queue.
_CANCEL = "DELETE FROM flow_ranges WHERE flow = $1"


class PostgresFlowRanges:
    """Implements `domain.ports.FlowRanges`.

    Args:
        database: of the ledger.
        retry_delay: seconds before a range is tried again after its first failure; doubles.
        retry_delay_limit: seconds that the delay grows to.
    """

    def __init__(
        self, database: Database, retry_delay: float = 1.0, retry_delay_limit: float = 60.0
    ) -> None:
        self._database = database
        self._retry_delay = retry_delay
        self._retry_delay_limit = retry_delay_limit

    async def plan(
        self,
        flow: UUID,
        requests: Sequence[dict[str, Any]],
        *,
        source: UUID | None = None,
        until: datetime | None = None,
    ) -> None:
        """Put the first ranges of a flow into the queue; again changes nothing."""
        async with self._database.transaction() as connection:
            entered = await connection.fetchval(_ENTER, flow, len(requests), source, until)
            if entered is not None:
                encoded = [_encoded(one) for one in requests]
                await connection.execute(_PUT_IN, flow, 0, encoded, 0.0)

    async def claim(self, holder: str, ttl: float) -> RangeClaim | None:
        """Claim a range that is free or whose lease ran out, or None."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_CLAIM, holder, ttl)
        if row is None:
            return None
        return RangeClaim(
            flow=plain_uuid(row["flow"]),
            number=row["number"],
            request=orjson.loads(row["request"]),
            attempt=row["attempt"],
        )

    async def renew(self, claim: RangeClaim, holder: str, ttl: float) -> bool:
        """Extend the lease; False if another worker has it now."""
        async with self._database.connection() as connection:
            renewed = await connection.fetchval(
                _RENEW, claim.flow, claim.number, claim.attempt, holder, ttl
            )
        return renewed is not None

    async def finish(self, claim: RangeClaim, following: dict[str, Any] | None = None) -> None:
        """Take a range out of the queue and put the one that follows it in, at once.

        The first worker that finishes a range decides what follows; a later one changes nothing.
        """
        async with self._database.transaction() as connection:
            taken = await connection.fetchval(_TAKE_OUT, claim.flow, claim.number)
            if taken is not None and following is not None:
                number = await connection.fetchval(_NEXT_NUMBER, claim.flow)
                pause = 0.0
                if "since" in following:
                    behind = await connection.fetchval(_BEHIND, claim.flow, following["since"])
                    pause = PAUSE_SECONDS if (behind or 0) < BACKLOG else 0.0
                await connection.execute(_PUT_IN, claim.flow, number, [_encoded(following)], pause)

    async def put_back(self, claim: RangeClaim, error: str, *, failed: bool = True) -> None:
        """Give a range back, with the reason, so that it is tried again after a while."""
        async with self._database.connection() as connection:
            await connection.execute(
                _PUT_BACK,
                claim.flow,
                claim.number,
                claim.attempt,
                error,
                self._retry_delay,
                self._retry_delay_limit,
                int(failed),
            )

    async def wake(self, flow: UUID) -> None:
        """Let the ranges of a flow be claimed at once: after failures, a pause, or its time."""
        # Ranges before flows, as in `finish`, or the two would wait for each other.
        async with self._database.transaction() as connection:
            await connection.execute(_WAKE, flow)
            await connection.execute(_UNTIL, flow, None)

    async def rest(self, flow: UUID, at: datetime) -> None:
        """Let a flow read no more changes from a time on, before it is woken."""
        async with self._database.connection() as connection:
            await connection.execute(_UNTIL, flow, at)

    async def next(self, flow: UUID) -> tuple[int, dict[str, Any]] | None:
        """Number and request of the first range of a flow that is in the queue."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_NEXT, flow)
        return None if row is None else (row["number"], orjson.loads(row["request"]))

    async def last(self, flow: UUID) -> int:
        """Number of the last range of a flow that was ever put in; -1 if there was none."""
        async with self._database.connection() as connection:
            number: int | None = await connection.fetchval(_LAST, flow)
        return -1 if number is None else number

    async def readers(self, generation: UUID) -> list[UUID]:
        """Flows that have still to read points or changes of a generation."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_READERS, generation)
        return [plain_uuid(row["flow"]) for row in rows]

    async def remaining(self, flow: UUID | None = None) -> int:
        """How many ranges of a flow, or of all flows, are to be worked on."""
        async with self._database.connection() as connection:
            count: int = await connection.fetchval(_REMAINING, flow)
        return count

    async def failing(self, flow: UUID, attempts: int) -> str | None:
        """The last error of a range that failed this often, or None."""
        async with self._database.connection() as connection:
            error: str | None = await connection.fetchval(_FAILING, flow, attempts)
            return error

    async def cancel(self, flow: UUID) -> None:
        """Take all ranges of a flow out of the queue."""
        async with self._database.connection() as connection:
            await connection.execute(_CANCEL, flow)


def _encoded(request: dict[str, Any]) -> str:
    return orjson.dumps(request).decode()
