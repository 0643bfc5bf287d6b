"""What is recorded and what rewrites a body never pass each other unseen."""

import asyncio
from typing import Any

import pytest

from adapters.postgres.bodies import claim_bodies, number_bodies
from adapters.postgres.connection import Database
from adapters.postgres.erasures import rewrite
from adapters.postgres.garbage import SparingObjects
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from domain.model.aggregate import pending_events
from domain.model.bodies import Manifest, address_of, encode_manifest
from domain.model.erasure import Erasure
from domain.model.errors import BodyErased, Rejected
from domain.model.recorded import Command
from tests.contract.builders import BODY, CONTEXT, create, draft, key

NEW, NEWER = "cd" * 32, "ef" * 32

KNOWN = "SELECT EXISTS (SELECT FROM bodies WHERE address = $1)"


async def waits(connection: Any, backend: int, work: "asyncio.Future[None]") -> bool:
    """Whether what a connection does waits for a lock, and does not come to its end."""
    while not work.done():
        waiting = await connection.fetchval(
            "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $1", backend
        )
        if waiting == "Lock":
            return True
    return False


async def test_a_rewrite_waits_for_what_refers_to_the_body(
    database: Database, ledger: PostgresLedger
) -> None:
    docs = await create(ledger)
    await ledger.record("first", CONTEXT, [draft(docs, {1: 1})])
    async with database.connection() as watch, database.transaction() as rewriting:
        backend = await rewriting.fetchval("SELECT pg_backend_pid()")
        async with database.transaction() as recording:
            claimed = await claim_bodies(recording, [BODY])
            task = asyncio.ensure_future(rewrite(rewriting, {BODY: NEW}))
            assert await waits(watch, backend, task)
        await task
    async with database.transaction() as recording:
        again = await number_bodies(recording, [BODY, NEW])
    assert again == dict.fromkeys([NEW, BODY], claimed.numbers[BODY])


async def test_what_is_recorded_waits_for_a_rewrite_and_sees_it(
    database: Database, ledger: PostgresLedger
) -> None:
    docs = await create(ledger)
    await ledger.record("first", CONTEXT, [draft(docs, {1: 1})])
    async with database.transaction() as rewriting:
        await rewrite(rewriting, {BODY: NEW})
        task = asyncio.ensure_future(ledger.record("second", CONTEXT, [draft(docs, {2: 2})]))
        while not await rewriting.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        ):
            assert not task.done()
            await asyncio.sleep(0.01)
    with pytest.raises(BodyErased) as caught:
        await task
    assert (caught.value.address, caught.value.gone) == (BODY, True)
    await ledger.record("third", CONTEXT, [draft(docs, {2: 2}, objects=[NEW])])


async def test_a_manifest_names_bodies_where_they_are_now(
    database: Database, ledger: PostgresLedger
) -> None:
    docs = await create(ledger)
    await ledger.record("first", CONTEXT, [draft(docs, {1: 1})])
    (_, change) = await ledger.events(docs)
    address = vars(change.event)["manifest"]
    for was, now in ((BODY, NEW), (NEW, NEWER)):
        async with database.transaction() as connection:
            await rewrite(connection, {was: now})
        assert (await ledger.manifests([address]))[address].objects == [now]
        heads = await ledger.heads(docs)
        assert (heads.keys, heads.objects) == ([key(1)], [now])
    assert await ledger.unusable([BODY, NEW, NEWER]) == {BODY, NEW}
    written = Manifest([key(1)], [None], [(1).to_bytes(16, "big")], [BODY], [0], [0])
    assert address_of(encode_manifest(written)) == address  # the manifest itself stays


async def test_erasures_are_recorded_and_not_appended(ledger: PostgresLedger) -> None:
    erasure = Erasure(number=1, basis="", subjects={})
    with pytest.raises(Rejected, match="recorded, not appended"):
        await ledger.append(Command("k", pending_events(erasure), CONTEXT))


async def test_what_was_erased_is_told_from_what_never_was(ledger: PostgresLedger) -> None:
    docs = await create(ledger)
    await ledger.record("first", CONTEXT, [draft(docs, {1: 1, 2: 2})])
    erasure = Erasure(number=1, basis="", subjects={str(docs): [1]})
    deletion = draft(docs, {1: None}, objects=[])
    await ledger.record("erase", CONTEXT, [deletion], pending_events(erasure))
    assert await ledger.erased_among([key(1), key(2), key(3)]) == {key(1)}
    assert await ledger.erasing(10) == {BODY: {0}}
    assert await ledger.erasing(10, [BODY]) == {}
    assert [one.key for one in await ledger.holdings([key(1), key(2)])] == [key(2)]
    assert await ledger.hashes_between(docs, [key(1)], 2, 3) == {
        key(1): {(1).to_bytes(16, "big"), None}
    }


async def test_an_object_is_not_put_where_one_is_about_to_be_rewritten(
    database: Database, ledger: PostgresLedger
) -> None:
    """Its writer has looked before the rewrite is committed, and waits for it."""
    content = b"points"
    was = address_of(content)
    docs = await create(ledger)
    await ledger.record("first", CONTEXT, [draft(docs, {1: 1}, objects=[was])])
    objects = SparingObjects(database, PostgresObjects(database))
    async with database.transaction() as rewriting:
        await rewrite(rewriting, {was: NEW})
        task = asyncio.ensure_future(objects.put(content))
        while not await rewriting.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        ):
            assert not task.done()
            await asyncio.sleep(0.01)
    with pytest.raises(BodyErased) as caught:
        await task
    assert (caught.value.address, caught.value.gone) == (was, True)
    assert await objects.missing([was]) == {was}
    async with database.connection() as connection:
        assert not await connection.fetchval(KNOWN, bytes.fromhex(was))


async def test_a_body_that_got_a_row_under_a_former_address_is_refused(
    database: Database, ledger: PostgresLedger
) -> None:
    """Its writer stood still between looking for the row and making one."""
    docs = await create(ledger)
    await ledger.record("first", CONTEXT, [draft(docs, {1: 1})])
    async with database.transaction() as connection:
        await rewrite(connection, {BODY: NEW})
        await connection.execute(
            "INSERT INTO bodies (address, fate) VALUES ($1, 'condemned')", bytes.fromhex(BODY)
        )
    with pytest.raises(BodyErased) as caught:
        await ledger.record("second", CONTEXT, [draft(docs, {2: 2})])
    assert (caught.value.address, caught.value.gone) == (BODY, True)


async def test_an_object_is_not_put_while_somebody_in_it_is_being_erased(
    database: Database, ledger: PostgresLedger
) -> None:
    """It was given up, so the erasure leaves it as it is."""
    content = b"points"
    was = address_of(content)
    docs = await create(ledger)
    await ledger.record("first", CONTEXT, [draft(docs, {1: 1}, objects=[was])])
    async with database.transaction() as erasing:
        await erasing.execute("UPDATE bodies SET fate = 'deleted'")
    objects = SparingObjects(database, PostgresObjects(database))
    async with database.transaction() as erasing:
        await erasing.fetch("SELECT FROM bodies FOR UPDATE")
        task = asyncio.ensure_future(objects.put(content))
        while not await erasing.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            assert not task.done()
            await asyncio.sleep(0.01)
        await erasing.execute(
            'INSERT INTO erased (gid, id, version, until, hash, body, "row")'
            ' SELECT gid, h.id, version, 9, hash, body, "row" FROM heads h'
        )
    with pytest.raises(BodyErased) as caught:
        await task
    assert (caught.value.address, caught.value.gone) == (was, True)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT fate FROM bodies") == "deleted"
