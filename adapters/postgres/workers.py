"""Who is alive: a row for each role of each process, touched from time to time."""

import os
import socket

import orjson

from adapters.postgres.connection import Database
from domain.ports import Document, WorkerBeat

# Say that a worker is alive, and forget those that nobody heard of for a day.
_BEAT = """
WITH forgotten AS (
    DELETE FROM workers WHERE seen < now() - interval '1 day' AND worker <> $1
)
INSERT INTO workers (worker, role, pid, host, detail) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (worker, role) DO UPDATE SET
    pid = excluded.pid, host = excluded.host, detail = excluded.detail, seen = now()
"""

# Forget a worker that stopped.
_LEAVE = "DELETE FROM workers WHERE worker = $1"

# Workers that gave a sign within so many seconds.
_ALIVE = """
SELECT worker, role, pid, host, started, detail,
    extract(epoch FROM now() - seen)::float8 AS seconds_ago
FROM workers WHERE seen >= now() - make_interval(secs => $1)
ORDER BY role, worker
"""


class PostgresWorkers:
    """Implements `domain.ports.Workers` for this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pid = os.getpid()
        self._host = socket.gethostname()

    async def beat(self, worker: str, role: str, detail: Document) -> None:
        """Say that a worker is alive."""
        encoded = orjson.dumps(detail).decode()
        async with self._database.connection() as connection:
            await connection.execute(_BEAT, worker, role, self._pid, self._host, encoded)

    async def leave(self, worker: str) -> None:
        """Say that a worker stopped as it should."""
        async with self._database.connection() as connection:
            await connection.execute(_LEAVE, worker)

    async def alive(self, within: float = 15.0) -> list[WorkerBeat]:
        """Workers that gave a sign within so many seconds."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ALIVE, within)
        return [
            WorkerBeat(
                worker=row["worker"],
                role=row["role"],
                pid=row["pid"],
                host=row["host"],
                started=row["started"],
                seconds_ago=row["seconds_ago"],
                detail=orjson.loads(row["detail"]),
            )
            for row in rows
        ]
