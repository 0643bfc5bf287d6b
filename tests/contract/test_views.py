"""Read models in builds, and signs of life."""

import os

import pytest

from adapters.postgres.connection import Database
from adapters.postgres.views import PostgresViews
from adapters.postgres.workers import PostgresWorkers
from domain.model.errors import Conflict
from domain.model.recorded import Cursor


@pytest.fixture
def views(database: Database) -> PostgresViews:
    return PostgresViews(database)


def at(position: int) -> Cursor:
    return Cursor(position, position.to_bytes(32, "big"))


async def test_a_build_is_seen_when_it_is_published(views: PostgresViews) -> None:
    build = await views.open("progress", 1)
    assert (build.live, build.cursor) == (False, Cursor())
    build = await views.store(build, {"a": {"n": 1}}, at(3))
    assert await views.get("progress", "a") is None
    assert await views.cursor("progress") == Cursor()
    assert await views.load(build, ["a", "b"]) == {"a": {"n": 1}}

    build = await views.publish(build)

    assert build.live
    assert build.cursor == at(3)
    assert await views.get("progress", "a") == {"n": 1}
    assert await views.get("progress", "b") is None
    assert await views.cursor("progress") == at(3)
    assert await views.open("progress", 1) == build


async def test_an_unfinished_build_is_gone_on_with(views: PostgresViews) -> None:
    build = await views.store(await views.open("progress", 1), {}, at(1))
    assert await views.open("progress", 1) == build
    assert (await views.open("progress", 2)).number != build.number
    assert (await views.open("other", 1)).number != build.number


async def test_a_new_shape_is_built_beside_the_live_one(
    database: Database, views: PostgresViews
) -> None:
    old = await views.publish(await views.store(await views.open("p", 1), {"a": {"v": 1}}, at(1)))
    given_up = await views.store(await views.open("p", 2), {"a": {"v": 2}}, at(1))
    new = await views.store(await views.open("p", 3), {"a": {"v": 3}}, at(1))
    assert await views.get("p", "a") == {"v": 1}

    new = await views.publish(new)

    assert await views.get("p", "a") == {"v": 3}
    for replaced in (old, given_up):
        assert await views.load(replaced, ["a"]) == {}
        with pytest.raises(Conflict):
            await views.store(replaced, {}, at(2))
        with pytest.raises(Conflict):
            await views.publish(replaced)
    assert await views.get("p", "a") == {"v": 3}
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM view_builds") == 1


async def test_a_rebuild_begins_empty(views: PostgresViews) -> None:
    live = await views.publish(await views.store(await views.open("p", 1), {"a": {}}, at(1)))
    build = await views.rebuild("p", 1)
    assert (build.live, build.cursor) == (False, Cursor())
    assert await views.load(build, ["a"]) == {}
    assert await views.open("p", 1) == live
    await views.publish(build)
    assert await views.get("p", "a") is None


async def test_documents_are_replaced_and_deleted(views: PostgresViews) -> None:
    build = await views.store(await views.open("p", 1), {"a": {"n": 1}, "b": {}}, at(1))
    build = await views.store(build, {"a": {"n": 2}, "b": None, "c": None}, at(2))
    assert await views.load(build, ["a", "b", "c"]) == {"a": {"n": 2}}


async def test_only_one_projector_moves_a_build(views: PostgresViews) -> None:
    build = await views.open("p", 1)
    moved = await views.store(build, {"a": {"n": 1}}, at(1))
    with pytest.raises(Conflict, match="another projector moved build"):
        await views.store(build, {"a": {"n": 2}}, at(1))
    with pytest.raises(Conflict):
        await views.store(
            type(moved)(moved.name, moved.number, moved.live, Cursor(1, bytes(32))), {}, at(2)
        )
    assert await views.load(moved, ["a"]) == {"a": {"n": 1}}


async def test_finding_documents(views: PostgresViews) -> None:
    documents = {"b": {"state": "on"}, "B": {"state": "off"}, "a": {"state": "on", "n": [1]}}
    build = await views.store(await views.open("p", 1), dict(documents), at(1))
    assert await views.find("p") == []
    await views.publish(build)

    async def keys(**what: object) -> list[str]:
        return [key for key, _ in await views.find("p", **what)]  # type: ignore[arg-type]

    assert await views.find("p") == [(key, documents[key]) for key in ("B", "a", "b")]
    assert await keys(after="B") == ["a", "b"]
    assert await keys(limit=2) == ["B", "a"]
    assert await keys(match={"state": "on"}) == ["a", "b"]
    assert await keys(match={"n": [1]}) == ["a"]
    assert await views.find("unknown") == []


async def test_signs_of_life(database: Database) -> None:
    workers = PostgresWorkers(database)
    await workers.beat("w1", "relay", {"at": 1})
    await workers.beat("w1", "relay", {"at": 2})
    await workers.beat("w2", "applier", {})

    second, first = await workers.alive()

    assert (first.worker, first.role, first.detail) == ("w1", "relay", {"at": 2})
    assert first.pid == os.getpid()
    assert second.worker == "w2"
    assert first.seconds_ago >= 0
    assert await workers.alive(within=-1) == []
    await workers.leave("w1")
    assert [one.worker for one in await workers.alive()] == ["w2"]


async def test_workers_of_yesterday_are_forgotten(database: Database) -> None:
    workers = PostgresWorkers(database)
    await workers.beat("old", "relay", {})
    async with database.connection() as connection:
        await connection.execute("UPDATE workers SET seen = seen - interval '2 days'")
    assert await workers.alive() == []
    await workers.beat("new", "relay", {})
    assert [one.worker for one in await workers.alive(within=1e6)] == ["new"]
