"""The disk under PostgreSQL is full: appends wait, nothing acknowledged is lost, and they go on.

PostgreSQL refuses what needs room in a table. When there is no room for its log it ends all its
processes and recovers, again and again, until there is.
"""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.connection import open_database
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.schema import upgrade
from domain.model.errors import DiskFull, LedgerError, Unavailable
from domain.ports import Ledger
from tests.contract.builders import command, generation
from tests.disks import SmallDisk, small_disk
from tests.integration.worlds import eventually

EVENTS = 400
COMMANDS = 40
DISK = 120  # megabytes
LOG_DISK = 40


class Appending:
    """Commands, and what became of them."""

    def __init__(self, ledger: Ledger) -> None:
        self.acknowledged: dict[str, int] = {}
        self.errors: list[LedgerError] = []
        self._ledger = ledger

    async def append(self, number: int) -> bool:
        """Try a command once; whether it was acknowledged."""
        made = generation(f"docs{number}__g1")
        for alias in range(EVENTS - 1):
            made.point_alias(f"alias{alias}" + "x" * 100, None)
        key = f"command/{number}"
        try:
            answer = await self._ledger.append(command(key, made))
        except LedgerError as error:
            self.errors.append(error)
            return False
        self.acknowledged[key] = answer.position
        return True

    async def append_all(self, numbers: range) -> None:
        for number in numbers:
            await eventually(trying(self.append, number))

    async def append_until_refused(self, times: int) -> int:
        """Append new commands until one is refused so often; its number."""
        number = len(self.acknowledged)
        while True:
            refused = 0
            while refused < times and not await self.append(number):
                refused += 1
            if refused == times:
                return number
            number += 1


def trying(append: Callable[[int], Awaitable[bool]], number: int) -> Callable[[], Awaitable[bool]]:
    return lambda: append(number)


@asynccontextmanager
async def appending(folder: Path) -> AsyncIterator[Appending]:
    async with Supervisor(folder) as supervisor:
        endpoints = await start_servers(supervisor, {"postgres"})
        async with open_database(endpoints.database_url or "") as database:
            await upgrade(database)
            async with PostgresLedger(database) as ledger:
                yield Appending(ledger)


async def assert_complete(work: Appending, commands: int) -> None:
    """Each command happened once, and the positions have no holes."""
    events = await work._ledger.read(0, 2 * commands * EVENTS)
    assert [event.position for event in events] == list(range(1, commands * EVENTS + 1))
    first = {event.position for event in events if event.version == 1}
    assert first == set(work.acknowledged.values())


async def test_tables_without_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", DISK) as disk:
        async with appending(disk.folder / "data") as work:
            await work.append_all(range(5))
            disk.fill()
            number = await work.append_until_refused(5)
            assert {type(error) for error in work.errors} == {DiskFull}
            assert "make room there" in str(work.errors[-1])
            disk.make_room()
            await work.append_all(range(number, COMMANDS))
            await assert_complete(work, COMMANDS)


async def test_a_log_without_room(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with appending(folder) as work:
        await work.append_all(range(1))
    with small_disk(tmp_path / "disk", LOG_DISK) as disk:
        move_log(folder / "postgres" / "pg_wal", disk)
        async with appending(folder) as work:
            work.acknowledged["command/0"] = 1
            disk.fill()
            number = await work.append_until_refused(20)
            assert all(isinstance(error, Unavailable) for error in work.errors)
            assert "PANIC" in (folder / "logs" / "postgres.log").read_text()
            disk.make_room()
            await work.append_all(range(number, number + 10))
            await assert_complete(work, number + 10)


def move_log(log: Path, disk: SmallDisk) -> None:
    """Put PostgreSQL's log on another disk, as its owner."""
    moved = disk.folder / log.name
    shutil.copytree(log, moved)
    owner = log.stat()
    for path in (disk.folder, moved, *moved.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)
    moved.chmod(0o700)
    shutil.rmtree(log)
    log.symlink_to(moved)
