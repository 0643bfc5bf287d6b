"""`log verify` and `log events`: what they say, what they take, how they end."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.postgres.ledger import PostgresLedger
from domain.model.aggregate import Actor, Context
from domain.model.application import Application
from tests.contract.builders import application, command
from tests.contract.tampering import forget_after, tampering, write_hashes_anew
from tests.e2e.program import Ended
from tests.integration.commands import NOWHERE, run

pytestmark = pytest.mark.usefixtures("typed_here")

DEAD = ("--kafka-bootstrap", NOWHERE, "--qdrant-url", f"http://{NOWHERE}")
"""The other servers, which these commands do not need."""
NO_DATABASE = f"postgresql://me:s3cret@{NOWHERE}/ledger"
WHY = Context(Actor("mara", "setting"), reason="[bold]domains[/bold]", correlation_id="m-1")


@dataclass(frozen=True)
class Log:
    """A ledger of nine events: four streams of two, and one of one.

    Attributes:
        url: of its database.
        heads: every place of it as POSITION:HASH, the beginning first.
    """

    url: str
    heads: list[str]

    async def run(self, *arguments: str, stdin: str = "") -> Ended:
        return await run("log", *arguments, "--database-url", self.url, *DEAD, stdin=stdin)


def file(*lines: str) -> str:
    Path("heads.txt").write_text("".join(f"{line}\n" for line in lines))
    return "heads.txt"


@pytest.fixture
async def log(ledger_database: str, ledger: PostgresLedger) -> Log:
    for number in range(4):
        made = application(number, receipts=1)
        await ledger.append(command(str(number), made, context=WHY))
    await ledger.append(command("last", application(4), context=WHY))
    places = [(0, bytes(32)), *((one.position, one.hash) for one in await ledger.read(0, 100))]
    return Log(ledger_database, [f"{at}:{digest.hex()}" for at, digest in places])


async def test_an_unaltered_ledger_prints_a_head_that_it_can_be_compared_with(log: Log) -> None:
    plain = await log.run("verify")
    assert plain.status == 0, plain.err
    assert plain.out == f"unaltered  {log.heads[9]}  9 events checked\n"

    written = await log.run("verify", "--json", "--against", file(plain.out))
    assert (written.status, written.err) == (0, "")
    assert written.document == {"unaltered": True, "checked": 9, "noted": 1, "head": log.heads[9]}

    both = file(plain.out, "", written.out, log.heads[4].upper())
    again = await log.run("verify", "--against", both, "--from", log.heads[4])
    assert again.status == 0, again.err
    assert again.out == f"unaltered  {log.heads[9]}  5 events checked, 2 noted heads compared\n"

    later = await log.run("verify", "--from", both)
    assert later.out == f"unaltered  {log.heads[9]}  0 events checked\n"


async def test_a_head_is_read_from_standard_input(log: Log) -> None:
    ended = await log.run("verify", "--against", "-", stdin=f"{log.heads[3]}\n")
    assert ended.status == 0, ended.err
    assert "1 noted heads compared" in ended.out


async def test_an_altered_event_is_named(log: Log) -> None:
    async with tampering(log.url) as owner:
        await owner.execute("UPDATE events SET topic = 'nothing.happened' WHERE position = 5")

    plain = await log.run("verify")
    assert plain.status == 1
    assert plain.out.startswith("altered  event 5 is not what was recorded")
    written = await log.run("verify", "--json")
    assert written.status == 1
    assert written.document == {
        "unaltered": False,
        "position": 5,
        "problem": plain.out.removeprefix("altered  ").strip(),
    }
    assert (await log.run("verify", "--from", log.heads[5])).status == 0


async def test_what_only_a_noted_head_finds(log: Log) -> None:
    async with tampering(log.url) as owner:
        await owner.execute("UPDATE events SET topic = 'nothing.happened' WHERE position = 5")
        await write_hashes_anew(owner, 5)
    assert (await log.run("verify")).status == 0
    assert (await log.run("verify", "--against", log.heads[4])).status == 0
    rewritten = await log.run("verify", "--against", file(log.heads[4], log.heads[9]))
    assert rewritten.status == 1
    assert "event 9 is not the one that was noted: one of the events 5 to 9" in rewritten.out

    async with tampering(log.url) as owner:
        await forget_after(owner, 3)
    assert (await log.run("verify")).status == 0
    shortened = await log.run("verify", "--against", log.heads[9])
    assert shortened.status == 1
    assert "event 4 is missing from the ledger: it ends at 3" in shortened.out


HEAD = "3:" + "ab" * 32
FILES = {
    "empty.txt": "\n",
    "words.txt": f"{HEAD}\naltered  event 5\n",
    "two.txt": f"{HEAD}\n3:{'0' * 64}\n",
}


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ("17:abc", "'17:abc' is not POSITION:HASH: a hash has 64 hexadecimal digits"),
        ("17:" + "g" * 64, "is not POSITION:HASH"),
        ("nowhere.txt", "nowhere.txt cannot be read: "),
        (".", "cannot be read"),
        ("empty.txt", "empty.txt has no POSITION:HASH"),
        ("words.txt", "line 2 of words.txt has no POSITION:HASH"),
        ("two.txt", "two.txt has two different hashes of event 3"),
    ],
)
@pytest.mark.parametrize("option", ["--against", "--from"])
async def test_a_malformed_head_is_misuse(
    tmp_path: Path, option: str, against: str, said: str
) -> None:
    """It is refused before anything is connected to."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    ended = await run("log", "verify", option, against, "--database-url", NO_DATABASE, *DEAD)
    assert ended.status == 2
    assert said in ended.err


async def test_a_noted_head_before_the_trusted_one_is_misuse() -> None:
    heads = ("--from", HEAD, "--against", "2:" + "ab" * 32)
    ended = await run("log", "verify", *heads, "--database-url", NO_DATABASE, *DEAD)
    assert ended.status == 2
    assert "--against has event 2, which is before --from 3" in ended.err


@pytest.mark.parametrize("words", [("verify",), ("verify", "--against", HEAD), ("events",)])
async def test_an_unreachable_ledger_is_neither_unaltered_nor_altered(
    words: tuple[str, ...],
) -> None:
    ended = await run("log", *words, "--database-url", NO_DATABASE, *DEAD)
    assert ended.status == 3
    assert NOWHERE in ended.err
    assert "s3cret" not in ended.out + ended.err


def positions(ended: Ended) -> list[int]:
    assert ended.status == 0, ended.err
    return [document["position"] for document in ended.documents]


async def test_events_are_shown_as_they_are_recorded(log: Log, ledger: PostgresLedger) -> None:
    documents = (await log.run("events", "--json")).documents
    assert [f"{one['position']}:{one['hash']}" for one in documents] == log.heads[1:]
    recorded = (await ledger.read(1, 1))[0]
    assert documents[1] == {
        "position": 2,
        "recorded_at": recorded.recorded_at.isoformat(),
        "topic": "application.changes-applied",
        "stream": str(recorded.stream),
        "version": 2,
        "context": WHY.to_json(),
        "state": {"points": 10, "through": 1},
        "hash": recorded.hash.hex(),
    }

    plain = await log.run("events", "--after", "1", "--limit", "1")
    at = recorded.recorded_at.isoformat(timespec="milliseconds")
    assert plain.out.splitlines() == [
        f"       2  {at}  application.changes-applied  mara: [bold]domains[/bold]",
        f"          {recorded.stream} 2  points=10 through=1",
    ]


async def test_events_are_selected(log: Log) -> None:
    stream = str(Application.create_id(application(2).generation))
    for arguments, expected in (
        (("--limit", "3"), [7, 8, 9]),
        (("--after", "2", "--limit", "3"), [3, 4, 5]),
        (("--after", "7"), [8, 9]),
        (("--after", "9"), []),
        (("--after", "99"), []),
        (("--stream", stream), [5, 6]),
        (("--stream", stream, "--limit", "1"), [6]),
        (("--stream", stream, "--after", "5"), [6]),
        (("--topic", "application.created"), [1, 3, 5, 7, 9]),
        (("--topic", "application.created", "--limit", "2"), [7, 9]),
        (("--topic", "application.ch", "--after", "4"), [6, 8]),
        (("--topic", "app", "--after", "7"), [8, 9]),
        (("--topic", "application.created", "--stream", stream), [5]),
        (("--topic", "migration."), []),
    ):
        assert positions(await log.run("events", "--json", *arguments)) == expected, arguments
    for arguments in (("--stream", "x"), ("--limit", "0"), ("--after", "-1")):
        assert (await log.run("events", *arguments)).status == 2


async def test_following_from_a_position_ends_at_its_limit(
    log: Log, ledger: PostgresLedger
) -> None:
    async with asyncio.TaskGroup() as group:
        follow = ("events", "--json", "--follow", "--after", "7", "--limit", "4")
        following = group.create_task(log.run(*follow))
        for number in range(10, 13):
            await ledger.append(command(str(number), application(number)))
    assert positions(following.result()) == [8, 9, 10, 11]
