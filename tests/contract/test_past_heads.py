"""What points were: heads at any version of a generation, while it goes on."""

from collections.abc import Mapping
from itertools import pairwise
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.postgres.connection import Database
from adapters.postgres.head_history import complete_pasts
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.schema import require_current
from domain.model.errors import Unavailable
from domain.model.recorded import ChangeSetDraft
from tests.contract.builders import CONTEXT, create, draft

OTHER_BODY = "cd" * 32

Points = dict[int, int]
"""Point number to the number of its hash."""


async def record(ledger: PostgresLedger, *drafts: ChangeSetDraft) -> None:
    await ledger.record(str(uuid4()), CONTEXT, drafts)


async def heads(
    ledger: PostgresLedger, generation: UUID, at: int | None = None, limit: int = 100
) -> Points:
    """All heads, page by page."""
    points: Points = {}
    after = b""
    while True:
        found = await ledger.heads(generation, after=after, limit=limit, at=at)
        assert all(one < other for one, other in pairwise([after, *found.keys]))
        numbers = [int.from_bytes(one[1:], "big") for one in found.keys]
        points |= zip(numbers, map(int.from_bytes, found.hashes), strict=True)
        if len(found) < limit:
            return points
        after = found.keys[-1]


async def test_every_version_is_read_as_it_was(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10, 2: 20}))
    await record(ledger, draft(stream, {1: 11, 3: 30}))
    await record(ledger, draft(stream, {2: None}))
    await record(ledger, draft(stream, {2: 22, 3: None}))

    assert await heads(ledger, stream, at=1) == {}
    assert await heads(ledger, stream, at=2) == {1: 10, 2: 20}
    assert await heads(ledger, stream, at=3) == {1: 11, 2: 20, 3: 30}
    assert await heads(ledger, stream, at=4) == {1: 11, 3: 30}
    assert await heads(ledger, stream, at=5) == await heads(ledger, stream) == {1: 11, 2: 22}


async def test_an_earlier_version_names_the_body_of_that_time(ledger: PostgresLedger) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10, 2: 20}))
    await record(ledger, draft(stream, {2: 21}, objects=[OTHER_BODY]))

    before = await ledger.heads(stream, at=2)
    after = await ledger.heads(stream, at=3)

    assert (before.objects, before.rows) == (["ab" * 32] * 2, [0, 1])
    assert before.versions == [2, 2]
    assert (after.objects, after.rows) == (["ab" * 32, OTHER_BODY], [0, 0])


async def test_change_sets_that_are_recorded_together_are_versions_of_their_own(
    ledger: PostgresLedger,
) -> None:
    stream = await create(ledger)
    await record(ledger, draft(stream, {1: 10}))
    await record(
        ledger,
        draft(stream, {1: 11, 2: 21}, objects=[OTHER_BODY]),
        draft(stream, {1: None, 2: 22}),
        draft(stream, {1: 13}),
    )

    assert await heads(ledger, stream, at=2) == {1: 10}
    assert await heads(ledger, stream, at=3) == {1: 11, 2: 21}
    assert (await ledger.heads(stream, at=3)).objects == [OTHER_BODY] * 2
    assert await heads(ledger, stream, at=4) == {2: 22}
    assert await heads(ledger, stream, at=5) == {1: 13, 2: 22}


def apply(points: Points, change: Mapping[int, int | None]) -> Points:
    return {number: value for number, value in {**points, **change}.items() if value is not None}


changes = st.lists(
    st.lists(
        st.dictionaries(st.integers(1, 9), st.none() | st.integers(1, 4), min_size=1),
        min_size=1,
        max_size=3,
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each has a stream
@given(commands=changes, limit=st.integers(1, 10))
async def test_heads_at_a_version_are_what_the_changes_up_to_it_come_to(
    ledger: PostgresLedger, commands: list[list[dict[int, int | None]]], limit: int
) -> None:
    stream = await create(ledger, f"docs__{uuid4()}")
    expected: list[Points] = [{}, {}]
    for command in commands:
        await record(ledger, *(draft(stream, change) for change in command))
        for change in command:
            after = apply(expected[-1], change)
            if after != expected[-1]:  # else nothing is recorded
                expected.append(after)

    for version, points in enumerate(expected):
        assert await heads(ledger, stream, at=version, limit=limit) == points


async def test_a_past_that_was_not_kept_is_read_from_the_manifests(
    database: Database, ledger: PostgresLedger
) -> None:
    stream, other = await create(ledger), await create(ledger, "code__g1")
    random = Random(7)
    for _ in range(20):
        change = {random.randint(1, 30): random.choice([None, 1, 2, 3]) for _ in range(8)}
        await record(ledger, draft(stream, change), draft(other, change, objects=[OTHER_BODY]))
    versions = range(1, 22)
    before = [[await ledger.heads(s, at=at) for at in versions] for s in (stream, other)]
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM past_heads")
        await connection.execute("UPDATE generations SET has_past = false")

    with pytest.raises(Unavailable, match="db upgrade"):
        await require_current(database)
    await complete_pasts(database)

    await require_current(database)
    assert before == [[await ledger.heads(s, at=at) for at in versions] for s in (stream, other)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each has a stream
@given(commands=changes, first=st.integers(1, 12), more=st.integers(0, 12))
async def test_hashes_between_versions_are_those_of_each_version(
    ledger: PostgresLedger, commands: list[list[dict[int, int | None]]], first: int, more: int
) -> None:
    stream = await create(ledger, f"docs__{uuid4()}")
    for command in commands:
        await record(ledger, *(draft(stream, change) for change in command))
    recorded = (await ledger.events(stream))[-1].version
    first = min(first, recorded)
    last = min(first + more, recorded)
    keys = list(draft(stream, dict.fromkeys(range(1, 10), 1)).keys)

    expected: dict[bytes, set[bytes | None]] = {key: set() for key in keys}
    for version in range(first, last + 1):
        found = await ledger.heads(stream, at=version)
        there = dict(zip(found.keys, found.hashes, strict=True))
        for key in keys:
            expected[key].add(there.get(key))
    assert await ledger.hashes_between(stream, keys, first, last) == expected
