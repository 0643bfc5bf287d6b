"""Processes that append at once, are killed and go on: nothing is lost, doubled or out of order."""

import asyncio
import json
import os
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import hypothesis
import pytest

from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import Database
from adapters.postgres.derived import verify_derived
from adapters.postgres.ledger import PostgresLedger
from domain.model.aggregate import NOT_RECORDED
from domain.model.recorded import Command
from tests.contract.builders import CONTEXT
from tests.contract.processes import start
from tests.contract.tally import TAKEN, Item, Tally, counted

LARGE = hypothesis.settings.get_current_profile_name() == "large"
WRITERS = 8
ITEMS = 100_000 if LARGE else 1000
KILLS = 10 if LARGE else 2
SEED = int(os.environ.get("SEED", "3"))


@dataclass
class Acknowledged:
    """What the processes of one writer were told.

    Attributes:
        positions: every position that an item was answered with.
        kills: how often a process was killed.
        refused: conflicts that were lost.
        repeated: answers that had been given before.
    """

    positions: dict[int, set[int]] = field(default_factory=dict)
    kills: int = 0
    refused: int = 0
    repeated: int = 0

    def take(self, line: bytes) -> None:
        number, position, count, repeated, refused = map(int, line.split())
        assert count == Item(0, number).count
        self.positions.setdefault(number, set()).add(position)
        self.repeated += repeated
        self.refused += refused

    @property
    def first_missing(self) -> int:
        return next(number for number in range(ITEMS + 1) if number not in self.positions)


async def keep_writing(url: str, writer: int) -> Acknowledged:
    """Run a writer to its end; it is killed at moments of its own, and started again."""
    random, told = Random(f"{SEED}/{writer}"), Acknowledged()
    while True:
        arguments = ("writer", str(writer), str(told.first_missing), str(ITEMS))
        process = await start("tests.contract.tally", *arguments, url=url)
        assert process.stdout is not None
        left = random.randrange(2 * ITEMS // (KILLS + 1)) if told.kills < KILLS else ITEMS * 2
        async for line in process.stdout:
            told.take(line)
            left -= 1
            if left == 0:
                with suppress(ProcessLookupError):  # it came to its end just now
                    process.kill()
        if await process.wait() == 0:
            return told
        assert process.returncode == -signal.SIGKILL
        assert left <= 0
        told.kills += 1


async def tailed(url: str, *arguments: str) -> dict[str, object]:
    process = await start("tests.contract.tally", "tailer", *arguments, url=url)
    output, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, object] = json.loads(output)
    return found


async def recorded_items(ledger: PostgresLedger) -> dict[tuple[int, int, int], list[int]]:
    """Where the ledger has what: positions by writer, number and part."""
    found: dict[tuple[int, int, int], list[int]] = {}
    after = 0
    while page := await ledger.read(after, 5000):
        for one in page:
            assert one.position == after + 1
            after = one.position
            if isinstance(one.event, Tally.Counted):
                event = one.event
                found.setdefault((event.writer, event.number, event.part), []).append(one.position)
    return found


@pytest.mark.timeout(3600 if LARGE else 300)
async def test_processes_that_append_at_once_and_are_killed(
    ledger_database: str, database: Database, ledger: PostgresLedger
) -> None:
    await ledger.append(Command("taken", [counted(TAKEN, 1, -1, 0)], CONTEXT))

    async with asyncio.TaskGroup() as group:
        tails = [
            group.create_task(tailed(ledger_database, *arguments))
            for arguments in (("0.01",), ("100",), ("0.1", "test-tally."))
        ]
        async with asyncio.TaskGroup() as writing:
            writers = [
                writing.create_task(keep_writing(ledger_database, writer))
                for writer in range(WRITERS)
            ]
        end = Tally.Ended(originator_id=TAKEN, originator_version=2, timestamp=NOT_RECORDED)
        last = (await ledger.append(Command("end", [end], CONTEXT))).position

    told = [task.result() for task in writers]
    for happened in ("kills", "refused", "repeated"):
        assert sum(getattr(one, happened) for one in told) > 0
    for tail in tails:
        assert tail.result() == {"read": last, "last": last, "gaps": []}
    found = await recorded_items(ledger)
    assert found.pop((-1, 0, 0)) == [1]
    assert found.keys() == {
        (writer, number, part)
        for writer in range(WRITERS)
        for number in range(ITEMS)
        for part in range(Item(writer, number).count)
    }
    assert Counter(len(positions) for positions in found.values()).keys() == {1}
    for writer, one in enumerate(told):
        for number, positions in one.positions.items():
            assert positions == set(found[writer, number, 0])
    assert last == 2 + sum(len(positions) for positions in found.values())
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM events") == last
    assert (await verify_chain(database)).position == last
    await verify_derived(database)
