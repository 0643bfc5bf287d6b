"""The database's append functions against a model that looks at one command after the other."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import StoredEvent

from adapters.postgres.appending import EncodedCommand, Outcome, append_alone, append_batch
from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import Database, open_database
from adapters.postgres.derived import verify_derived
from adapters.postgres.schema import upgrade
from tests.contract.test_schema_upgrades import make_database_of

TOPIC = "test.häppened"
A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


@dataclass
class Model:
    """What the ledger must be, and what its answers must be."""

    versions: dict[UUID, int] = field(default_factory=dict)
    answers: dict[str, tuple[bytes, int, int]] = field(default_factory=dict)
    refused: list[str | None] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)

    def append(self, command: EncodedCommand) -> Outcome:
        if command.key in self.answers:
            request_hash, position, count = self.answers[command.key]
            if request_hash == command.request_hash:
                return Outcome(command.key, "repeated", position, count)
            return Outcome(command.key, "reused", 0, 0)
        seen: dict[UUID, int] = {}
        for event in command.events:
            stream = event.originator_id
            assert isinstance(stream, UUID)
            seen[stream] = seen.get(stream, 0) + 1
            expected, actual = event.originator_version - seen[stream], self.versions.get(stream, 0)
            if expected != actual:
                conflict = (str(stream), expected, actual)
                self.refused.append(command.key)
                return Outcome(command.key, "conflict", 0, 0, conflict)
        count = len(command.events)
        position = len(self.events) + 1 if count else 0
        for event in command.events:
            assert isinstance(event.originator_id, UUID)
            self.versions[event.originator_id] = event.originator_version
            self.events.append(
                (event.originator_id, event.originator_version, event.state, command.context)
            )
        if command.key is not None:
            self.answers[command.key] = (command.request_hash, position, count)
        return Outcome(command.key, "appended", position, count)


def event(stream: UUID, version: int) -> StoredEvent:
    return StoredEvent(stream, version, TOPIC, f'{{"ä":{stream.int + version}}}'.encode())


def encoded(key: str | None, *events: StoredEvent, content: bytes = b"1") -> EncodedCommand:
    return EncodedCommand(key, content, f'{{"actor":"{key}"}}'.encode(), events)


async def append(connection: Any, model: Model, batch: list[EncodedCommand]) -> None:
    """Append a batch to the ledger and to its model, which must give the same answers."""
    expected = [model.append(command) for command in batch]
    if len(batch) == 1:
        assert [await append_alone(connection, batch[0])] == expected
    else:
        assert await append_batch(connection, batch) == expected


async def assert_same(database: Database, model: Model) -> None:
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT position, stream, version, state, context FROM events ORDER BY position"
        )
    assert [tuple(row) for row in rows] == [
        (position, *event) for position, event in enumerate(model.events, 1)
    ]
    assert (await verify_chain(database)).position == len(model.events)
    await verify_derived(database)


def any_batch(
    random: Random, model: Model, streams: list[UUID], number: int
) -> list[EncodedCommand]:
    """Commands that all win, or of which some or many lose, for one reason or another."""
    wrong = random.choice([0, 0, 0.02, 0.3])
    batch: dict[object, EncodedCommand] = {}
    versions = dict(model.versions)
    for place in range(random.choice([1, 1, 2, 5, 40])):
        key = random.choice([None, f"{number}/{place}"])
        if model.answers and random.random() < wrong:
            key = random.choice([*model.answers, *model.refused])
        if random.random() < wrong:
            versions = dict(model.versions)
        events = []
        for _ in range(random.choice([0, 1, 1, 1, 2, 4])):
            stream = random.choice(streams)
            version = versions.get(stream, 0) + 1
            if random.random() < wrong:
                version += random.choice([-1, 1])
            versions[stream] = version
            events.append(event(stream, version))
        command = encoded(key, *events, content=random.choice([b"1", b"1", b"2"]))
        batch.setdefault(key or place, command)
    return list(batch.values())


@pytest.mark.parametrize(
    "batch",
    [
        [],
        [encoded("1")],
        [encoded(None, event(A, 1))],
        [encoded(None, event(A, 1)), encoded(None, event(A, 2)), encoded(None, event(B, 1))],
        [encoded("1", event(A, 1), event(B, 1), event(A, 2)), encoded("2", event(A, 3))],
        [encoded("1", event(A, 1)), encoded("2", event(A, 1)), encoded("3", event(A, 2))],
        [encoded("1", event(A, 2)), encoded("2", event(A, 1)), encoded("3", event(A, 3))],
        [encoded("1", event(B, 1), event(A, 2)), encoded("2", event(B, 1)), encoded("3")],
        [encoded("1", event(A, 1), event(A, 3)), encoded("2", event(A, 1))],
        [encoded("1", event(A, 2), event(A, 1)), encoded("2", event(B, 1))],
        [encoded("1", event(A, 0)), encoded("2", event(A, 1))],
    ],
    ids=[
        "no-command",
        "no-event",
        "no-key",
        "no-keys-one-stream",
        "one-sees-another",
        "loser-between",
        "winner-between",
        "half-a-loser",
        "gap",
        "disorder",
        "version-0",
    ],
)
async def test_a_batch_is_one_command_after_the_other(
    database: Database, batch: list[EncodedCommand]
) -> None:
    model = Model()
    async with database.connection() as connection:
        await append(connection, model, batch)
    await assert_same(database, model)


@pytest.mark.parametrize("again", [b"1", b"2"], ids=["repeated", "reused"])
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among-others"])
async def test_a_key_is_answered_as_before(
    database: Database, *, alone: bool, again: bytes
) -> None:
    first = [encoded("1", event(A, 1)), encoded("2", event(B, 1), event(C, 1))]
    batch = [encoded("2", event(B, 1), event(C, 1), content=again)]
    if not alone:
        batch = [encoded("3", event(A, 2)), *batch, encoded("4", event(B, 2))]
    model = Model()
    async with database.connection() as connection:
        await append(connection, model, first)
        await append(connection, model, batch)
    await assert_same(database, model)


@pytest.mark.parametrize("seed", range(12))
async def test_batches_of_any_commands_are_as_the_model_says(database: Database, seed: int) -> None:
    random = Random(seed)
    model = Model()
    streams = [uuid4() for _ in range(4)]
    async with database.connection() as connection:
        for number in range(25):
            await append(connection, model, any_batch(random, model, streams, number))
    await assert_same(database, model)


async def test_the_database_hashes_as_documented(database: Database) -> None:
    documented = (Path(__file__).parents[2] / "docs/reference/event-hash.md").read_text()
    async with database.connection() as connection:
        hashed = await connection.fetchval(
            "SELECT event_hash($1, 1, '00112233-4455-6677-8899-aabbccddeeff', 1, 1767323045678901,"
            " 'generation.dropped', $2, $3)",
            bytes(32),
            b"{}",
            b'{"actor":"mara"}',
        )
    assert f"`{hashed.hex()}`" in documented


@pytest.mark.parametrize("public", [True, False], ids=["everybody", "one-role"])
async def test_who_might_append_before_the_upgrade_may_append_one(
    empty_database: str, *, public: bool
) -> None:
    service, other = f"service_{uuid4().hex}", f"other_{uuid4().hex}"
    await make_database_of(empty_database, 3)
    async with open_database(empty_database) as database, database.connection() as connection:
        await connection.execute(f"CREATE ROLE {service}; CREATE ROLE {other}")
        if not public:
            await connection.execute("REVOKE EXECUTE ON FUNCTION append FROM PUBLIC")
            await connection.execute(f"GRANT EXECUTE ON FUNCTION append TO {service}")
        await upgrade(database)
        for function in ("append", "append_one"):
            may = "SELECT has_function_privilege($1, $2::regproc, 'EXECUTE')"
            assert await connection.fetchval(may, service, function)
            assert await connection.fetchval(may, other, function) == public
