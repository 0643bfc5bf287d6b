"""The ledger's contract: appending, reading, and what a reader may rely on."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from adapters.postgres.appending import encode_command
from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import Database, open_database
from adapters.postgres.ledger import PostgresLedger
from domain.model.aggregate import LedgerAggregate
from domain.model.application import Application
from domain.model.errors import Corrupt, KeyReused, LedgerError, Rejected, VersionConflict
from domain.model.generation import Generation
from domain.model.recorded import Answer, Command, Cursor
from tests.contract.builders import CONTEXT, application, command, create, generation, pending
from tests.contract.dropping import DropsAfterCommit
from tests.contract.waiting import until_somebody_waits


async def test_what_is_appended_is_read_back_with_its_place(ledger: PostgresLedger) -> None:
    made = application(receipts=1)

    answer = await ledger.append(command("k", made))

    created, receipt = await ledger.read(0, 10)
    assert answer == Answer(position=1, count=2, repeated=False)
    assert (created.position, created.stream, created.version) == (1, made.id, 1)
    assert created.topic == "application.created"
    assert created.context == CONTEXT
    assert isinstance(created.event, Application.Created)
    assert (receipt.position, receipt.version) == (2, 2)
    assert await ledger.head() == Cursor(2, receipt.hash)
    assert await ledger.read(2, 10) == []
    assert await ledger.read(0, 1) == [created]


async def test_an_aggregate_is_loaded_as_it_was(ledger: PostgresLedger) -> None:
    made = generation()
    made.point_alias("docs", previous=None)
    await ledger.append(command("k", made))

    loaded = await ledger.load(Generation, made.id)

    assert loaded is not None
    assert await ledger.load(Generation, uuid4()) is None
    written, read = dict(vars(made)), dict(vars(loaded))
    times = {"_created_on", "_modified_on"}
    assert {k: v for k, v in written.items() if k not in times} == {
        k: v for k, v in read.items() if k not in times
    }
    assert read["_modified_on"] == (await ledger.read(0, 10))[-1].recorded_at


async def test_a_loaded_aggregate_goes_on(ledger: PostgresLedger) -> None:
    made = application()
    await ledger.append(command("1", made))
    loaded = await ledger.load(Application, made.id)
    assert loaded is not None
    assert pending(loaded) == []
    loaded.receipt(7, points=1)
    assert (await ledger.append(command("2", loaded))).position == 2


async def test_a_stream_is_not_loaded_as_another_kind(ledger: PostgresLedger) -> None:
    made = application()
    await ledger.append(command("1", made))
    with pytest.raises(Corrupt, match="is a Application, not a Generation"):
        await ledger.load(Generation, made.id)


async def test_events_of_one_stream(ledger: PostgresLedger) -> None:
    made = application(receipts=4)
    await ledger.append(command("1", made, application(2)))

    async def versions(**bounds: int) -> list[int]:
        return [one.version for one in await ledger.events(made.id, **bounds)]

    assert await versions() == [1, 2, 3, 4, 5]
    assert await versions(after=2) == [3, 4, 5]
    assert await versions(after=2, through=4) == [3, 4]


async def test_reading_one_kind_of_events(ledger: PostgresLedger) -> None:
    await create(ledger, "a")
    await ledger.append(command("1", application(receipts=1)))
    await create(ledger, "b")

    async def positions(topics: str) -> list[int]:
        return [one.position for one in await ledger.read(0, 10, topics=topics)]

    assert await positions("generation.") == [1, 4]
    assert await positions("application.changes") == [3]
    assert await positions("app") == [2, 3]
    assert await positions("migration.") == []
    assert await positions("a%") == []


async def test_a_stream_at_another_version_is_a_conflict(ledger: PostgresLedger) -> None:
    made = application(receipts=1)
    await ledger.append(command("1", made))
    with pytest.raises(VersionConflict) as caught:
        await ledger.append(command("2", application(receipts=1)))
    error = caught.value
    assert (error.stream, error.expected, error.actual) == (str(made.id), 0, 2)
    assert (await ledger.head()).position == 2


async def test_a_gap_inside_a_command_is_a_conflict(ledger: PostgresLedger) -> None:
    created, _skipped, last = pending(application(receipts=2))
    with pytest.raises(VersionConflict):
        await ledger.append(Command("1", [created, last], CONTEXT))
    assert (await ledger.head()).position == 0


async def test_interleaved_streams_in_one_command(ledger: PostgresLedger) -> None:
    first, second = pending(application(1, receipts=1)), pending(application(2, receipts=1))
    events = [first[0], second[0], first[1], second[1]]
    answer = await ledger.append(Command("1", events, CONTEXT))
    assert answer.count == 4
    assert [one.version for one in await ledger.read(0, 10)] == [1, 1, 2, 2]


async def test_a_conflict_harms_no_neighbour_and_burns_no_position(
    ledger: PostgresLedger,
) -> None:
    await ledger.append(command("first", application(0)))

    async def attempt(number: int) -> Answer | LedgerError:
        taken = number % 3 == 0
        try:
            made = application(0 if taken else number)
            return await ledger.append(command(f"k{number}", made))
        except VersionConflict as error:
            return error

    answers = await asyncio.gather(*(attempt(number) for number in range(1, 61)))

    conflicts = [number for number, one in enumerate(answers, 1) if isinstance(one, Exception)]
    assert conflicts == list(range(3, 61, 3))
    assert await verify_chain(ledger._database) == await ledger.head()
    assert (await ledger.head()).position == 1 + 40


async def test_positions_are_dense_and_tailing_misses_none(ledger_database: str) -> None:
    writers, each = 8, 40

    async def write(writer: int) -> None:
        async with (
            open_database(ledger_database, max_size=2) as database,
            PostgresLedger(database) as ledger,
            asyncio.TaskGroup() as group,
        ):
            for number in range(each):
                made = application(writer * 1000 + number)
                group.create_task(ledger.append(command(str(made.id), made)))

    async def tail(ledger: PostgresLedger) -> list[int]:
        seen: list[int] = []
        while len(seen) < writers * each:
            after = seen[-1] if seen else 0
            await ledger.wait(after, 10)
            seen += [one.position for one in await ledger.read(after, 1000)]
        return seen

    async with open_database(ledger_database) as database, PostgresLedger(database) as ledger:
        async with asyncio.TaskGroup() as group:
            tailing = group.create_task(tail(ledger))
            for writer in range(writers):
                group.create_task(write(writer))
        assert tailing.result() == list(range(1, writers * each + 1))
        recorded = await ledger.read(0, 1000)
        times = [one.recorded_at for one in recorded]
        assert times == sorted(times)
        await verify_chain(database)


async def test_the_same_key_gets_the_first_answer(ledger: PostgresLedger) -> None:
    first = await ledger.append(command("k", application()))
    again = await ledger.append(command("k", application()))
    assert again == Answer(first.position, first.count, repeated=True)
    assert await ledger.answer("k") == again
    assert await ledger.answer("unknown") is None
    assert (await ledger.head()).position == 1


async def test_the_same_command_on_a_newer_aggregate_is_a_repetition(
    ledger: PostgresLedger,
) -> None:
    made = application()
    await ledger.append(command("1", made))
    made.receipt(5, points=1)
    first = await ledger.append(command("2", made))
    made.receipt(5, points=1)
    assert await ledger.append(command("2", made)) == Answer(first.position, 1, repeated=True)


async def test_a_key_with_other_content_is_refused(ledger: PostgresLedger) -> None:
    await ledger.append(command("k", application(1)))
    with pytest.raises(KeyReused, match="'k'"):
        await ledger.append(command("k", application(2)))
    assert (await ledger.head()).position == 1


async def test_a_key_of_a_refused_command_is_free(ledger: PostgresLedger) -> None:
    await ledger.append(command("1", application()))
    with pytest.raises(VersionConflict):
        await ledger.append(command("2", application()))
    assert await ledger.answer("2") is None
    assert (await ledger.append(command("2", application(2)))).position == 2


async def test_one_key_many_times_at_once(ledger: PostgresLedger) -> None:
    answers = await asyncio.gather(*(ledger.append(command("k", application())) for _ in range(20)))
    assert {answer.position for answer in answers} == {1}
    assert sum(not answer.repeated for answer in answers) == 1


async def test_a_command_without_events_is_remembered(ledger: PostgresLedger) -> None:
    assert await ledger.append(Command("k", [], CONTEXT)) == Answer(0, 0, repeated=False)
    assert await ledger.append(Command("k", [], CONTEXT)) == Answer(0, 0, repeated=True)


async def test_events_of_generations_come_with_the_rules_of_all(ledger: PostgresLedger) -> None:
    made = generation()
    first = await ledger.append(command("k", made))
    assert await ledger.append(command("k", generation())) == Answer(
        first.position, 1, repeated=True
    )
    with pytest.raises(KeyReused):
        await ledger.append(command("k", generation("other")))
    with pytest.raises(VersionConflict):
        await ledger.append(command("k2", generation()))
    assert await ledger.answer("k2") is None
    assert (await ledger.head()).position == 1


async def test_change_sets_are_not_appended_without_their_points(ledger: PostgresLedger) -> None:
    made = generation()
    made.trigger_event(
        Generation.ChangeSetRecorded,
        manifest="00" * 32,
        upserts=1,
        deletes=0,
        added=1,
        captured=False,
        source={},
    )
    with pytest.raises(Rejected, match="with their points"):
        await ledger.append(command("k", made))


@pytest.mark.parametrize("made", [application(), generation()], ids=["batch", "own-transaction"])
async def test_an_ambiguous_commit_gets_the_first_answer(
    database: Database, made: LedgerAggregate
) -> None:
    dropping = DropsAfterCommit(database._url, database._pool, database._settings)
    wanted = Command("k", list(made.pending_events), CONTEXT)
    async with PostgresLedger(dropping) as ledger:
        answer = await ledger.append(wanted)
        assert not dropping.armed
        assert answer == Answer(1, 1, repeated=True)
        assert (await ledger.head()).position == 1


async def test_appending_goes_on_after_its_connections_ended(
    database: Database, ledger: PostgresLedger
) -> None:
    end = (
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE application_name = 'migration-ledger appender' AND datname = current_database()"
    )
    for number in (1, 3):
        both = [encode_command(command(str(n), application(n))) for n in (number, number + 1)]
        await asyncio.gather(*(ledger._appender.append([one]) for one in both))
        async with database.connection() as connection:
            assert await connection.fetchval(end) == 2
        await ledger.append(command(f"after {number}", application(10 + number)))
    assert (await ledger.head()).position == 6


async def test_a_caller_who_gives_up_holds_back_nobody(
    ledger_database: str, database: Database, ledger: PostgresLedger
) -> None:
    async with database.transaction() as holding:
        await holding.execute("SELECT pg_advisory_xact_lock(5569203478133)")
        append = asyncio.ensure_future(ledger.append(command("1", application(1))))
        await until_somebody_waits(ledger_database, 1)
        append.cancel()
        await asyncio.wait([append])
    assert append.cancelled()
    answers = await asyncio.gather(
        *(ledger.append(command(str(number), application(number))) for number in range(1, 5))
    )
    assert sorted(answer.position for answer in answers) == [1, 2, 3, 4]


async def test_cursors_of_another_history_are_found(ledger: PostgresLedger) -> None:
    await ledger.append(command("1", application()))
    head = await ledger.head()
    await ledger.verify_cursor(Cursor())
    await ledger.verify_cursor(head)
    with pytest.raises(Corrupt, match="position 2, which the ledger does not have"):
        await ledger.verify_cursor(Cursor(2, head.hash))
    with pytest.raises(Corrupt, match="another history"):
        await ledger.verify_cursor(Cursor(1, bytes(32)))
    with pytest.raises(Corrupt, match="another history"):
        await ledger.verify_cursor(Cursor(0, head.hash))


@pytest.mark.parametrize("poll", [0.01, 100.0], ids=["polling", "notification"])
async def test_waiting_ends_with_an_event_of_another_process(
    ledger_database: str, poll: float
) -> None:
    async with (
        open_database(ledger_database) as here,
        open_database(ledger_database) as there,
        PostgresLedger(here, poll=poll) as reader,
        PostgresLedger(there) as writer,
    ):
        async with asyncio.timeout(30):
            for number in range(5):
                async with asyncio.TaskGroup() as group:
                    group.create_task(reader.wait(number, 60))
                    group.create_task(writer.append(command(str(number), application(number))))
        await reader.wait(0, 60)
        await reader.wait(5, 0)


async def test_listening_goes_on_after_its_connection_ended(
    database: Database, ledger: PostgresLedger
) -> None:
    async def end_listeners() -> int:
        async with database.connection() as connection:
            ended = await connection.fetch(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'migration-ledger listener' AND query <> ''"
            )
            return len(ended)

    async with PostgresLedger(database, poll=100.0) as reader, asyncio.timeout(30):
        for number in range(2):
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(reader.wait(number, 60))
                while not await end_listeners():
                    assert not waiting.done()
                await ledger.append(command(str(number), application(number)))


class Thing(LedgerAggregate):
    """An aggregate whose event has a second version."""

    TOPIC = "test-thing"

    class Created(LedgerAggregate.Created):
        TOPIC = "test-thing.created"
        full_name: str
        class_version = 2

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            state["full_name"] = state.pop("name")

    def __init__(self, full_name: str) -> None:
        self.full_name = full_name


async def test_old_events_are_upcast(ledger: PostgresLedger) -> None:
    made = Thing(full_name="Ada")
    await ledger.append(command("1", made))
    old = uuid4()
    async with ledger._database.connection() as connection:
        await connection.fetch(
            "SELECT * FROM append(ARRAY['2'], ARRAY[''::bytea], ARRAY[$2::bytea], ARRAY[1],"
            " ARRAY[$1::uuid], ARRAY[1], ARRAY['test-thing.created'], ARRAY[$3::bytea])",
            old,
            b'{"actor":"a","actor_established":"os-user","causation_id":"","correlation_id":"",'
            b'"reason":""}',
            b'{"name":"Grace","originator_topic":"test-thing"}',
        )
    loaded = [await ledger.load(Thing, stream) for stream in (made.id, old)]
    assert [thing.full_name for thing in loaded if thing] == ["Ada", "Grace"]
