"""Recording change sets: what counts, what was there before, and what is left of it."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from adapters.postgres.applications import PostgresApplications
from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import Database
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from domain.model.application import Application
from domain.model.bodies import Manifest
from domain.model.errors import Corrupt, KeyReused, PointChanged, Rejected, VersionConflict
from domain.model.generation import Generation
from domain.model.recorded import Answer, ChangeSetDraft, Cursor
from domain.use_cases.tools import update
from tests.contract.builders import BODY, CONTEXT, command, create, draft, key, pending, point_hash
from tests.contract.dropping import DropsAfterCommit

OTHER_BODY = "cd" * 32


async def record(ledger: PostgresLedger, *drafts: ChangeSetDraft) -> Answer:
    return await ledger.record(str(uuid4()), CONTEXT, drafts)


async def heads(ledger: PostgresLedger, generation: UUID) -> dict[int, int]:
    found = await ledger.heads(generation)
    numbers = [int.from_bytes(one[1:], "big") for one in found.keys]
    return dict(zip(numbers, map(int.from_bytes, found.hashes), strict=True))


async def changes(ledger: PostgresLedger, generation: UUID) -> list[Generation.ChangeSetRecorded]:
    recorded = [one.event for one in await ledger.events(generation)]
    return [one for one in recorded if isinstance(one, Generation.ChangeSetRecorded)]


async def manifests(ledger: PostgresLedger, generation: UUID) -> list[Manifest]:
    addresses = [one.manifest for one in await changes(ledger, generation)]
    found = await ledger.manifests(addresses)
    return [found[address] for address in addresses]


async def points(database: Database, ledger: PostgresLedger, generation: UUID) -> int:
    status = await PostgresApplications(database, ledger.wakeups).status(generation)
    assert status is not None
    return status.points


async def test_a_change_set_becomes_an_event_a_manifest_and_heads(ledger: PostgresLedger) -> None:
    stream = await create(ledger)

    answer = await record(ledger, draft(stream, {1: 10, 2: 20}, source={"flow": "f"}))

    assert answer == Answer(position=2, count=1, repeated=False)
    [event] = await changes(ledger, stream)
    assert (event.upserts, event.deletes, event.added) == (2, 0, 2)
    assert event.source == {"flow": "f"}
    assert event.captured is False
    [manifest] = await manifests(ledger, stream)
    assert manifest == Manifest(
        keys=[key(1), key(2)],
        before=[None, None],
        hashes=[point_hash(10), point_hash(20)],
        objects=[BODY],
        object_index=[0, 0],
        rows=[0, 1],
    )
    found = await ledger.heads(stream)
    assert (found.keys, found.hashes) == (manifest.keys, manifest.hashes)
    assert (found.objects, found.rows, found.versions) == ([BODY, BODY], [0, 1], [2, 2])
    await verify_chain(ledger._database)


async def test_overwriting_and_deleting_say_what_was_there(
    database: Database, ledger: PostgresLedger
) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10, 2: 20, 3: 30}))
    await record(ledger, draft(stream, {3: None, 1: 11, 4: 40}))

    manifest = (await manifests(ledger, stream))[1]
    assert manifest.before == [point_hash(30), point_hash(10), None]
    assert manifest.hashes == [None, point_hash(11), point_hash(40)]
    event = (await changes(ledger, stream))[1]
    assert (event.upserts, event.deletes, event.added) == (2, 1, 0)
    assert await heads(ledger, stream) == {1: 11, 2: 20, 4: 40}
    assert await points(database, ledger, stream) == 3


async def test_a_deleted_point_can_come_back(database: Database, ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10}))
    await record(ledger, draft(stream, {1: None}))
    assert await heads(ledger, stream) == {}
    assert len(await ledger.heads_of(stream, [key(1)])) == 0
    assert await points(database, ledger, stream) == 0

    await record(ledger, draft(stream, {1: 10}))

    assert await heads(ledger, stream) == {1: 10}
    assert (await changes(ledger, stream))[-1].added == 1
    assert (await manifests(ledger, stream))[-1].before == [None]


async def test_rows_that_change_nothing_are_dropped(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10, 2: 20}))

    mixed = draft(stream, {1: 10, 2: 21, 9: None}, objects=[OTHER_BODY])
    await record(ledger, mixed)

    manifest = (await manifests(ledger, stream))[1]
    assert (manifest.keys, manifest.rows) == ([key(2)], [1])
    assert manifest.objects == [OTHER_BODY]
    event = (await changes(ledger, stream))[1]
    assert (event.upserts, event.deletes, event.added) == (1, 0, 0)
    found = await ledger.heads(stream)
    assert (found.objects, found.versions) == ([BODY, OTHER_BODY], [2, 3])


async def test_a_draft_without_rows_left_makes_no_event(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10}))
    answer = await ledger.record("again", CONTEXT, [draft(stream, {1: 10, 7: None})])
    assert answer == Answer(0, 0, repeated=False)
    assert (await ledger.head()).position == 2
    again = await ledger.record("again", CONTEXT, [draft(stream, {1: 10, 7: None})])
    assert again == Answer(0, 0, repeated=True)


async def test_bodies_that_no_row_needs_are_not_named(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10}))
    both = ChangeSetDraft(
        generation=stream,
        keys=[key(1), key(2), key(3)],
        hashes=[point_hash(10), None, point_hash(30)],
        objects=[BODY, OTHER_BODY],
        object_index=[0, 0, 1],
        rows=[0, 5, 7],
    )
    await record(ledger, both)
    [_, manifest] = await manifests(ledger, stream)
    assert manifest.keys == [key(3)]
    assert (manifest.objects, manifest.object_index, manifest.rows) == ([OTHER_BODY], [0], [7])


async def test_a_captured_row_never_overwrites_a_later_write(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10, 2: 20, 3: 30}))  # version 2
    await record(ledger, draft(stream, {1: 11, 3: None}))  # version 3

    read_before = draft(stream, {1: 12, 2: 22, 3: 32, 4: 42}, captured_at=2, captured=True)
    await record(ledger, read_before)

    assert await heads(ledger, stream) == {1: 11, 2: 22, 4: 42}
    assert (await changes(ledger, stream))[-1].captured is True
    await record(ledger, draft(stream, {1: 12}, captured_at=3))
    assert await heads(ledger, stream) == {1: 12, 2: 22, 4: 42}


async def test_drafts_of_one_call_follow_each_other(ledger: PostgresLedger) -> None:
    stream = await create(ledger)

    answer = await record(
        ledger,
        draft(stream, {1: 10, 2: 20}),
        draft(stream, {1: 11, 2: 20}),
        draft(stream, {1: None}),
        draft(stream, {2: 22}, captured_at=1),
    )

    assert answer.count == 3
    assert [one.before for one in await manifests(ledger, stream)] == [
        [None, None],
        [point_hash(10)],
        [point_hash(11)],
    ]
    assert [one.added for one in await changes(ledger, stream)] == [2, 0, -1]
    found = await ledger.heads(stream)
    assert (found.keys, found.versions) == ([key(2)], [2])


async def test_several_generations_and_events_in_one_call(ledger: PostgresLedger) -> None:
    first, second = await create(ledger, "a"), await create(ledger, "b")
    further = pending(Application(generation=str(first), physical="a"))

    answer = await ledger.record(
        "k", CONTEXT, [draft(first, {1: 1}), draft(second, {1: 2}), draft(first, {2: 3})], further
    )

    recorded = await ledger.read(2, 10)
    assert answer == Answer(3, 4, repeated=False)
    assert [(one.stream, one.version) for one in recorded] == [
        (first, 2),
        (second, 2),
        (first, 3),
        (further[0].originator_id, 1),
    ]
    assert await heads(ledger, first) == {1: 1, 2: 3}
    assert await heads(ledger, second) == {1: 2}


async def test_a_conflict_of_an_event_records_nothing(
    database: Database, ledger: PostgresLedger
) -> None:
    stream = await create(ledger)
    taken = Application(generation=str(stream), physical="a")
    await ledger.append(command("k", taken))
    before = await ledger.head()
    with pytest.raises(VersionConflict):
        await ledger.record(
            "r",
            CONTEXT,
            [draft(stream, {1: 1})],
            pending(Application(generation=str(stream), physical="a")),
        )
    assert await ledger.head() == before
    assert await heads(ledger, stream) == {}
    assert await points(database, ledger, stream) == 0
    assert await ledger.answer("r") is None


async def test_the_key_of_a_record(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    first = await ledger.record("k", CONTEXT, [draft(stream, {1: 10})])
    await record(ledger, draft(stream, {1: 99}))

    again = await ledger.record("k", CONTEXT, [draft(stream, {1: 10})])

    assert again == Answer(first.position, 1, repeated=True)
    assert await heads(ledger, stream) == {1: 99}
    for other in (
        draft(stream, {1: 11}),
        draft(stream, {1: None}),
        draft(stream, {1: 10}, captured_at=3),
        draft(stream, {1: 10}, source={"x": 1}),
        draft(stream, {1: 10}, objects=[OTHER_BODY]),
    ):
        with pytest.raises(KeyReused):
            await ledger.record("k", CONTEXT, [other])


async def test_one_key_recorded_many_times_at_once(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    answers = await asyncio.gather(
        *(ledger.record("k", CONTEXT, [draft(stream, {1: 10})]) for _ in range(8))
    )
    assert {answer.position for answer in answers} == {2}
    assert sum(not answer.repeated for answer in answers) == 1


async def test_an_ambiguous_record_gets_the_first_answer(database: Database) -> None:
    dropping = DropsAfterCommit(database._url, database._pool, database._settings)
    dropping.armed = False
    async with PostgresLedger(dropping) as ledger:
        stream = await create(ledger)
        dropping.armed = True
        answer = await record(ledger, draft(stream, {1: 10}))
        assert not dropping.armed
        assert answer == Answer(2, 1, repeated=True)
        assert (await ledger.head()).position == 2


async def test_writers_of_several_generations_never_lock_each_other_out(
    ledger: PostgresLedger,
) -> None:
    streams = [await create(ledger, name) for name in "abcd"]

    async def write(number: int) -> None:
        order = streams if number % 2 else streams[::-1]
        bodies = [f"{body:064x}" for body in range(number, number + 4)]
        await record(
            ledger,
            *(draft(stream, {number: number, 1: number}, objects=bodies) for stream in order),
        )

    async with asyncio.TaskGroup() as group:
        for number in range(2, 42):
            group.create_task(write(number))

    for stream in streams:
        assert len(await heads(ledger, stream)) == 41
        assert [one.version for one in await ledger.events(stream)] == list(range(1, 42))
    assert await verify_chain(ledger._database) == await ledger.head()


@pytest.mark.parametrize("end", ["drop", "release"])
async def test_nothing_is_recorded_to_what_is_gone(ledger: PostgresLedger, end: str) -> None:
    stream = await create(ledger)
    made = await ledger.load(Generation, stream)
    assert made is not None
    getattr(made, end)()
    await ledger.append(command("end", made))
    with pytest.raises(Rejected, match="docs__g1 was dropped or released"):
        await record(ledger, draft(stream, {1: 1}))


async def test_nothing_is_recorded_to_what_never_was(ledger: PostgresLedger) -> None:
    with pytest.raises(Rejected, match="does not exist"):
        await record(ledger, draft(uuid4(), {1: 1}))


@pytest.mark.parametrize(
    ("keys", "hashes"),
    [([key(1), key(1)], [point_hash(1), point_hash(2)]), ([key(1)], [])],
    ids=["twice", "ragged"],
)
async def test_malformed_drafts_are_refused(
    ledger: PostgresLedger, keys: list[bytes], hashes: Sequence[bytes]
) -> None:
    stream = await create(ledger)
    wrong = ChangeSetDraft(stream, keys, list(hashes), [BODY], [0] * len(keys), [0] * len(keys))
    with pytest.raises(Rejected):
        await record(ledger, wrong)


async def test_heads_come_in_pages_in_key_order(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {number: number for number in range(25, 0, -1)}))
    await record(ledger, draft(stream, dict.fromkeys(range(2, 25, 2))))
    pages = [await ledger.heads(stream, limit=5)]
    while len(pages[-1]) == 5:
        pages.append(await ledger.heads(stream, after=pages[-1].keys[-1], limit=5))
    assert [len(page) for page in pages] == [5, 5, 3]
    assert [one for page in pages for one in page.keys] == [key(n) for n in range(1, 26, 2)]
    some = await ledger.heads_of(stream, [key(9), key(2), key(3), key(77)])
    assert some.keys == [key(3), key(9)]
    assert some.hashes == [point_hash(3), point_hash(9)]
    assert len(await ledger.heads(uuid4())) == 0


async def test_points_are_looked_for_in_generations_that_are_there(ledger: PostgresLedger) -> None:
    one, other, gone = [await create(ledger, name) for name in ("one", "other", "gone")]
    await record(ledger, draft(one, {1: 10, 2: 20}), draft(other, {2: 21, 3: None}))
    await record(ledger, draft(gone, {1: 11}))
    await update(ledger, Generation, gone, "drop", CONTEXT, Generation.drop)
    found = await ledger.heads_among([one, other, gone], [key(1), key(2), key(3)])
    assert set(found) == {
        (one, key(1), point_hash(10)),
        (one, key(2), point_hash(20)),
        (other, key(2), point_hash(21)),
    }


async def test_a_point_that_another_generation_has_by_now_is_a_conflict(
    ledger: PostgresLedger,
) -> None:
    one, other = [await create(ledger, name) for name in ("one", "other")]
    await record(ledger, draft(one, {1: 10}), draft(other, {1: 11, 2: 20}))
    for changed in ({1: None}, {1: 10}):
        with pytest.raises(PointChanged):
            await record(ledger, draft(one, changed, unless_in=[other]))
    await record(ledger, draft(one, {1: 11, 2: 20, 3: 30}, unless_in=[other]))
    assert await heads(ledger, one) == {1: 11, 2: 20, 3: 30}


async def test_a_large_draft(database: Database, ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {number: number for number in range(12_000)}))
    assert await points(database, ledger, stream) == 12_000
    assert len(await ledger.heads(stream, limit=20_000)) == 12_000


async def test_manifests_are_checked(database: Database, ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 1}))
    [event] = await changes(ledger, stream)
    with pytest.raises(Corrupt, match=f"{OTHER_BODY} is missing"):
        await ledger.manifests([event.manifest, OTHER_BODY])
    async with database.connection() as connection:
        await connection.execute("UPDATE objects SET content = content || '\\x00'::bytea")
    with pytest.raises(Corrupt, match=f"{event.manifest} has other content"):
        await ledger.manifests([event.manifest])


async def test_objects_of_the_database(database: Database) -> None:
    objects = PostgresObjects(database)
    address = await objects.put(b"something")
    assert await objects.put(b"something") == address
    assert await objects.get(address) == b"something"
    with pytest.raises(Corrupt, match="is missing"):
        await objects.get(OTHER_BODY)


async def test_the_beginning(ledger: PostgresLedger) -> None:
    assert await ledger.head() == Cursor()
    assert await ledger.read(0, 10) == []
