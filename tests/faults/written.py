"""What the live writers must find: every write that was acknowledged, once, and in order."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import asyncpg
import orjson

from tests.faults import writer
from tests.faults.application_checks import Points

# What the ledger answered to keys of writers.
_COMMANDS = "SELECT key, position, count FROM migration_ledger.commands WHERE key LIKE 'live/%/%/%'"

# Where streams begin that several writers wanted to begin.
_CONTESTS = """
SELECT position FROM migration_ledger.events
WHERE topic = 'flow.planned' AND convert_from(state, 'UTF8') LIKE '%"contest %'
"""

# The change sets of writers, in order.
_CHANGE_SETS = """
SELECT position, stream FROM migration_ledger.events
WHERE topic = 'generation.change-set-recorded' AND stream = ANY($1) ORDER BY position
"""


class Write(NamedTuple):
    """A write that the ledger has."""

    position: int
    count: int
    writer: int
    number: int


class Notes(NamedTuple):
    """The journal of the writers.

    Attributes:
        asked: writer and number of every write that was sent.
        acknowledged: writer and number, to position and count of events as they were told.
        won: number of a contest, to the position of each event that won it.
        lost: number of a contest, to how often somebody lost it.
    """

    asked: set[tuple[int, int]]
    acknowledged: dict[tuple[int, int], tuple[int, int]]
    won: dict[int, set[int]]
    lost: Counter[int]


def notes(journal: Path) -> Notes:
    """Read a journal."""
    found = Notes(set(), {}, defaultdict(set), Counter())
    for line in journal.read_text(encoding="utf-8").splitlines():
        what, who, number, position, count = json.loads(line)
        if what == "asked":
            found.asked.add((who, number))
        elif what == "acked":
            found.acknowledged[who, number] = position, count
        elif what == "won":
            found.won[number].add(position)
        else:
            found.lost[number] += 1
    return found


async def recorded_writes(connection: asyncpg.Connection) -> dict[tuple[int, int], Write]:
    """The writes that the ledger has, by writer and number."""
    found = {}
    for row in await connection.fetch(_COMMANDS):
        _, _, who, number = row["key"].split("/")
        found[int(who), int(number)] = Write(row["position"], row["count"], int(who), int(number))
    return found


async def check_acknowledged(
    connection: asyncpg.Connection, seed: int, said: Notes, found: dict[tuple[int, int], Write]
) -> list[str]:
    """Each acknowledged write is where its answer said, and the ledger has no other."""
    findings = [
        f"write {which} was acknowledged at position {told[0]} and is not in the ledger"
        for which, told in said.acknowledged.items()
        if which not in found
    ]
    findings += [
        f"write {which} was acknowledged at {told} and is at {found[which][:2]}"
        for which, told in said.acknowledged.items()
        if which in found and found[which][:2] != told
    ]
    findings += [f"nobody asked for write {which}" for which in found.keys() - said.asked]
    expected = sorted(
        (write.position + place, writer.generation(collection))
        for which, write in found.items()
        for place, collection in enumerate(writer.write(seed, *which))
    )
    streams = [writer.generation(collection) for collection in range(writer.COLLECTIONS)]
    rows = await connection.fetch(_CHANGE_SETS, streams)
    events = [(row["position"], row["stream"]) for row in rows]
    if [(p, str(s)) for p, s in expected] != [(p, str(s)) for p, s in events]:
        findings.append(f"{len(expected)} change sets were written, and {len(events)} recorded")
    return findings


async def check_contests(connection: asyncpg.Connection, said: Notes) -> list[str]:
    """Of two who begin a stream one wins, the other is told so, and the event is where it was."""
    findings = []
    for number in {*said.won, *said.lost}:
        if len(said.won[number]) > 1:
            findings.append(f"contest {number} was won at {sorted(said.won[number])}")
        if not said.won[number] and said.lost[number] > 1:
            findings.append(f"contest {number} was lost by both")
    told = {position for won in said.won.values() for position in won}
    there = {row["position"] for row in await connection.fetch(_CONTESTS)}
    if told - there:
        findings.append(f"contests were won at {sorted(told - there)}, where others are")
    return findings


def expected_points(seed: int, found: Iterable[Write]) -> dict[str, Points]:
    """What the managed collections hold after these writes, in the order of the ledger."""
    collections: dict[str, Points] = {
        writer.physical(number): {} for number in range(writer.COLLECTIONS)
    }
    for write in sorted(found):
        for number, changes in writer.write(seed, write.writer, write.number).items():
            points = collections[writer.physical(number)]
            for change in changes:
                if change.payload is None or change.vector is None:
                    points.pop(change.id, None)
                else:
                    payload = json.dumps(orjson.loads(change.payload), sort_keys=True)
                    points[change.id] = payload, change.vector
    return collections
