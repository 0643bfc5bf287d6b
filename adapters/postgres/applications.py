"""Who applies which generation, and how far it is.

Leases run by the database's clock. Events of an application's stream are appended under the lock of
its row, which is taken before the ledger's.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from adapters.postgres.appending import append_last, encode_events
from adapters.postgres.connection import Database
from adapters.postgres.mapper import plain_uuid
from adapters.postgres.reports import LockedApplication, lock, move
from adapters.postgres.wakeups import Wakeups
from domain.model.aggregate import Context, LedgerAggregate
from domain.model.application import Application
from domain.model.errors import ObjectMissing
from domain.ports import GenerationStatus, Lease, Recovered

_STATUS = """
SELECT g.stream, g.collection, g.store, g.physical, g.number, g.recorded, a.applied, g.points,
    a.halted_at, g.gone, g.holders, g.archived_before, g.kept_versions
FROM generations g JOIN applications a ON a.generation = g.stream
"""

# Where one generation stands.
_ONE = f"{_STATUS} WHERE g.stream = $1"

# Where generations stand, oldest first.
_ALL = f"""{_STATUS}
WHERE ($1::text IS NULL OR g.store = $1) AND ($2::text IS NULL OR g.physical = $2)
    AND ($3::text IS NULL OR g.collection = $3)
ORDER BY g.gid
"""

# Generations that are not halted and have changes to apply.
_LAGGING = f"{_STATUS} WHERE g.recorded > a.applied AND a.halted_at IS NULL ORDER BY g.gid"

# Take or keep a lease that is free, our own, given back, or out for longer than the grace.
_ACQUIRE = """
WITH before AS (
    SELECT generation, holder, released, lease_until FROM applications
    WHERE working() AND generation = $1 FOR UPDATE
)
UPDATE applications a SET
    epoch = CASE WHEN b.holder = $2 AND NOT b.released THEN a.epoch ELSE a.epoch + 1 END,
    holder = $2,
    lease_until = clock_timestamp() + make_interval(secs => $3),
    released = false
FROM before b
WHERE a.generation = b.generation AND (
    b.released OR b.holder = $2 OR b.lease_until + make_interval(secs => $4) < clock_timestamp()
)
RETURNING a.epoch, a.applied, NOT b.released AND b.holder <> $2 AS taken_over
"""

# Extend all leases of a holder, locked in one order.
_RENEW = """
WITH held AS (
    SELECT generation FROM applications
    WHERE working() AND holder = $1 AND NOT released AND generation = ANY($3::uuid[])
    ORDER BY generation FOR UPDATE
)
UPDATE applications a SET lease_until = clock_timestamp() + make_interval(secs => $2)
FROM held h WHERE a.generation = h.generation
RETURNING a.generation
"""

# Give all leases of a holder back, locked in one order.
_RELEASE = """
WITH held AS (
    SELECT generation FROM applications WHERE holder = $1 AND NOT released
    ORDER BY generation FOR UPDATE
)
UPDATE applications a SET released = true FROM held h WHERE a.generation = h.generation
"""

Report = Callable[[LockedApplication], LedgerAggregate.Event | None]


class PostgresApplications:
    """Implements `domain.ports.Applications`."""

    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database = database
        self._wakeups = wakeups

    async def status(self, generation: UUID) -> GenerationStatus | None:
        """Where a generation stands."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_ONE, generation)
        return None if row is None else _status(row)

    async def generations(
        self,
        *,
        store: str | None = None,
        physical: str | None = None,
        collection: str | None = None,
    ) -> list[GenerationStatus]:
        """All generations, oldest first, or those with this store, physical or logical name."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ALL, store, physical, collection)
        return [_status(row) for row in rows]

    async def lagging(self) -> list[GenerationStatus]:
        """Generations that are not halted and have changes to apply."""
        async with self._database.connection() as connection:
            return [_status(row) for row in await connection.fetch(_LAGGING)]

    async def acquire(
        self, generation: UUID, holder: str, ttl: float, grace: float
    ) -> Lease | None:
        """Take or keep the lease; None while another's runs, and for `grace` seconds after."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_ACQUIRE, generation, holder, ttl, grace)
        if row is None:
            return None
        return Lease(generation, holder, row["epoch"], row["applied"], row["taken_over"])

    async def renew(self, holder: str, ttl: float, generations: Sequence[UUID]) -> set[UUID]:
        """Extend a holder's leases of these generations; returns those that it still holds."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_RENEW, holder, ttl, generations)
        return {plain_uuid(row["generation"]) for row in rows}

    async def release(self, holder: str) -> None:
        """Give all leases of a holder back, without a grace for the next one."""
        async with self._database.connection() as connection:
            await connection.execute(_RELEASE, holder)

    async def receipt(self, lease: Lease, through: int, points: int, context: Context) -> None:
        """Record that the store has everything up to a version; again changes nothing."""

        def report(locked: LockedApplication) -> LedgerAggregate.Event | None:
            if through <= locked.applied:
                return None
            return locked.next(Application.ChangesApplied, through=through, points=points)

        await self._report(lease.generation, report, context, lease)

    async def dead_letter(
        self, lease: Lease, change: int, category: str, cause: str, context: Context
    ) -> None:
        """Record a change that the store refuses; again changes nothing."""

        def report(locked: LockedApplication) -> LedgerAggregate.Event | None:
            if change <= locked.applied or locked.halted_at is not None:
                return None
            return locked.next(
                Application.ChangeDeadLettered,
                change=change,
                category=category,
                cause=cause,
            )

        await self._report(lease.generation, report, context, lease)

    async def recovered(
        self, lease: Lease, timeline: int, recovered: Recovered, context: Context
    ) -> None:
        """Record what a recovery did; a generation that lacks points halts in front of them."""
        facts = {field: value for field, value in vars(recovered).items() if field != "cause"}
        await self._report(
            lease.generation,
            lambda locked: locked.next(Application.StoreRecovered, timeline=timeline, **facts),
            context,
            lease,
        )
        if recovered.lacking:
            await self.dead_letter(
                lease, recovered.through + 1, ObjectMissing.__name__, recovered.cause, context
            )

    async def retry(self, generation: UUID, context: Context) -> None:
        """Try the dead letter of a generation again."""
        await self._report(
            generation,
            lambda locked: locked.next(Application.ChangeRetried, change=locked.halted()),
            context,
        )

    async def skip(self, generation: UUID, context: Context) -> None:
        """Give the dead letter of a generation up."""
        await self._report(
            generation,
            lambda locked: locked.next(Application.ChangeSkipped, change=locked.halted()),
            context,
        )

    async def _report(
        self, generation: UUID, report: Report, context: Context, lease: Lease | None = None
    ) -> None:
        async with self._database.transaction() as connection:
            locked = await lock(connection, generation, lease)
            event = report(locked)
            if event is None:
                return
            events = await move(connection, locked, event)
            outcome = await append_last(connection, encode_events(events, context))
        self._wakeups.grown(outcome.position + outcome.count - 1)


def _status(row: Any) -> GenerationStatus:
    return GenerationStatus(
        generation=plain_uuid(row["stream"]),
        collection=row["collection"],
        store=row["store"],
        physical=row["physical"],
        number=row["number"],
        recorded=row["recorded"],
        applied=row["applied"],
        points=row["points"],
        halted_at=row["halted_at"],
        gone=row["gone"],
        holders=tuple(row["holders"]),
        archived_before=row["archived_before"],
        kept_versions=tuple(row["kept_versions"]),
    )
