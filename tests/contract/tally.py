"""What many processes append: who wrote which event, so that each can be looked for.

Run as a program it is one of those processes: `python -m tests.contract.tally writer …` or
`… tailer …`, with the URL of the database on standard input.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from adapters.postgres.connection import open_database
from adapters.postgres.ledger import PostgresLedger
from domain.model.aggregate import NOT_RECORDED, LedgerAggregate, stream_id
from domain.model.errors import Unavailable, VersionConflict
from domain.model.recorded import Command
from tests.contract.builders import CONTEXT

AT_ONCE = 64
SHARED_STREAMS = 16
TAIL_PAGE = 500


class Tally(LedgerAggregate):
    """A stream that counts."""

    TOPIC = "test-tally"

    class Created(LedgerAggregate.Created):
        TOPIC = "test-tally.created"

    class Counted(LedgerAggregate.Event):
        TOPIC = "test-tally.counted"
        writer: int
        number: int
        part: int

    class Ended(LedgerAggregate.Event):
        """Nothing comes after this."""

        TOPIC = "test-tally.ended"


TAKEN = stream_id("test-tally", "taken")
"""A stream at version 1, which every writer expects to be new now and then."""


def shared(number: int) -> UUID:
    return stream_id("test-tally", "shared", number)


def counted(stream: UUID, version: int, writer: int, number: int, part: int = 0) -> Tally.Counted:
    return Tally.Counted(
        originator_id=stream,
        originator_version=version,
        timestamp=NOT_RECORDED,
        writer=writer,
        number=number,
        part=part,
    )


@dataclass(frozen=True)
class Item:
    """One thing that a writer appends; the same number is always the same thing.

    Attributes:
        writer: who.
        number: which.
    """

    writer: int
    number: int

    @property
    def key(self) -> str:
        return f"{self.writer}/{self.number}"

    @property
    def stream(self) -> UUID:
        """Every tenth goes to a stream that all writers share."""
        if self.number % 10 == 0:
            return shared(Random(self.key).randrange(SHARED_STREAMS))
        return stream_id("test-tally", self.key)

    @property
    def count(self) -> int:
        """Every tenth has two events."""
        return 2 if self.number % 10 == 5 else 1

    def command(self, expected: int) -> Command:
        events = [
            counted(self.stream, expected + 1 + part, self.writer, self.number, part)
            for part in range(self.count)
        ]
        return Command(self.key, events, CONTEXT)

    def lost_command(self) -> Command | None:
        """Every seventh comes with a neighbour that always loses a conflict."""
        if self.number % 7:
            return None
        return Command(f"{self.key}/lost", [counted(TAKEN, 1, self.writer, self.number)], CONTEXT)


@dataclass
class Writer:
    """Appends items, many at once, and says on standard output what was acknowledged."""

    ledger: PostgresLedger
    items: Iterator[Item]
    versions: dict[UUID, int] = field(default_factory=dict)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        for item in self.items:
            lost = item.lost_command()
            if lost is None:
                await self._append(item)
            else:
                await asyncio.gather(self._append(item), self._lose(lost))

    async def _append(self, item: Item) -> None:
        refused = 0
        while True:
            try:
                answer = await self.ledger.append(item.command(self.versions.get(item.stream, 0)))
            except VersionConflict as conflict:
                self.versions[item.stream] = conflict.actual
                refused += 1
            except Unavailable:
                continue
            else:
                break
        line = f"{item.number} {answer.position} {answer.count} {answer.repeated:d} {refused}\n"
        os.write(1, line.encode())

    async def _lose(self, command: Command) -> None:
        try:
            await self.ledger.append(command)
        except VersionConflict:
            return
        raise AssertionError(f"{command.key} was appended")


async def write(url: str, writer: int, first: int, count: int) -> None:
    async with open_database(url, max_size=4) as database, PostgresLedger(database) as ledger:
        await Writer(ledger, (Item(writer, number) for number in range(first, count))).run()


async def tail(url: str, poll: float, topics: str | None) -> None:
    """Read positions as they appear, to the end; says what was read and what was left out."""
    positions, gaps, last = 0, [], 0
    async with (
        open_database(url, max_size=2) as database,
        PostgresLedger(database, poll=poll) as ledger,
    ):
        ended = False
        while not ended:
            await ledger.wait(last, 100)
            for one in await ledger.read(last, TAIL_PAGE, topics=topics):
                if one.position != last + 1:
                    gaps.append((last, one.position))
                positions, last = positions + 1, one.position
                ended = isinstance(one.event, Tally.Ended)
    sys.stdout.write(json.dumps({"read": positions, "last": last, "gaps": gaps}))


def main() -> None:
    role, *arguments = sys.argv[1:]
    url = sys.stdin.readline().strip()
    if role == "writer":
        asyncio.run(write(url, *(int(argument) for argument in arguments)))
    else:
        poll, *topics = arguments
        asyncio.run(tail(url, float(poll), topics[0] if topics else None))


if __name__ == "__main__":
    main()
