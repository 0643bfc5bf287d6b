"""Waiting for others to wait, by what the server says of its sessions."""

import asyncio

import asyncpg

# Sessions of this database that wait for a lock.
_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def until_somebody_waits(url: str, sessions: int) -> None:
    """Return when at least so many sessions wait for a lock that another one holds."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(60):
            while await connection.fetchval(_WAITING) < sessions:
                await asyncio.sleep(0.01)
    finally:
        await connection.close()
