"""Upgrades a database when it is told to: `python -m tests.contract.upgrading`.

Standard input has the URL, and a line when to begin; standard output gets how many versions were
applied.
"""

import asyncio
import sys

from adapters.postgres.connection import open_database
from adapters.postgres.schema import upgrade


async def upgrade_when_told(url: str) -> None:
    async with open_database(url) as database:
        sys.stdout.write("connected\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        sys.stdout.write(f"{len(await upgrade(database))}\n")


if __name__ == "__main__":
    asyncio.run(upgrade_when_told(sys.stdin.readline().strip()))
