"""Live writes by HTTP."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx
import pytest

from adapters.bootstrap import Service
from adapters.http import points as routes
from domain.model.generation import Generation
from domain.model.points import decode_payload, key_of
from domain.use_cases.apply_changes import Applier
from domain.use_cases.tools import save
from tests.integration.faults import LedgerDeliveries
from tests.integration.http_api.asking import SCHEMA, WORKER, generation, key, refused

VECTOR = [1.0, 0.0, 0.0, 0.0]


@pytest.fixture
async def made(service: Service) -> AsyncIterator[Generation]:
    """A collection that the store has."""
    made = generation(f"docs_{uuid4().hex[:12]}")
    await save(service.ledger, made, "made", WORKER)
    store = service.stores.store("default")
    await store.create(made.physical, SCHEMA)
    lease = await service.applications.acquire(made.id, "one", 5.0, 1.0)
    assert lease is not None
    await service.applications.receipt(lease, 1, 0, WORKER)
    await service.applications.release("one")
    yield made
    await store.drop(made.physical)


def path(made: Generation, end: str = "") -> str:
    return f"/v1/collections/{made.physical}/points{end}"


def point(number: int, **payload: Any) -> dict[str, Any]:
    return {"id": number, "payload": payload, "vector": VECTOR}


class TestWrites:
    async def test_points_are_written_changed_and_deleted(
        self, api: httpx.AsyncClient, service: Service, made: Generation
    ) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            applier = Applier(service.applier_tools, LedgerDeliveries(service.ledger), "two")
            group.create_task(applier.run(stop))
            wait = {"wait": "readable", "reason": "OPS-1"}
            for end, body, counts in (
                ("", {"points": [point(1, a=1), point(2, a=2)]}, (2, 2, 0, 0)),
                ("/payload", {"points": [{"id": 1, "payload": {"b": 1}}]}, (1, 1, 0, 0)),
                ("/delete", {"ids": [2, 3]}, (2, 0, 1, 1)),
            ):
                answer = await api.post(path(made, end), json=body, params=wait, headers=key())
                assert answer.status_code == HTTPStatus.OK, answer.text
                found = answer.json()
                assert found["readable"]
                assert counts == tuple(
                    found[name] for name in ("points", "upserted", "deleted", "unchanged")
                )
            stop.set()
        stored = await service.stores.store("default").retrieve(
            made.physical, [key_of(n) for n in (1, 2, 3)]
        )
        assert [decode_payload(p) for p in stored.payloads] == [{"a": 1, "b": 1}]
        events = await service.ledger.events(made.id, after=1)
        assert [e.context.reason for e in events] == ["OPS-1"] * 3

    async def test_the_character_nul_is_refused(
        self, api: httpx.AsyncClient, made: Generation
    ) -> None:
        body = {"points": [point(1)]}
        answer = await api.post(path(made) + "?reason=%00", json=body, headers=key())
        refused(answer, HTTPStatus.BAD_REQUEST, "rejected")
        for read in ("/v1/migrations?after=%00", "/v1/collections/%00"):
            assert (await api.get(read)).status_code < HTTPStatus.INTERNAL_SERVER_ERROR

    async def test_a_write_is_sent_again(self, api: httpx.AsyncClient, made: Generation) -> None:
        header = key()
        first = await api.post(path(made), json={"points": [point(1)]}, headers=header)
        await api.post(path(made, "/delete"), json={"ids": [1]}, headers=key())
        again = await api.post(path(made), json={"points": [point(1)]}, headers=header)
        assert again.json() == {**first.json(), "repeated": True}
        other = await api.post(path(made), json={"points": [point(2)]}, headers=header)
        refused(other, 422, "key-reused")

    async def test_a_write_that_is_not_readable_in_time_is_recorded(
        self,
        api: httpx.AsyncClient,
        service: Service,
        made: Generation,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(routes, "READABLE_SECONDS", 0.2)
        answer = await api.post(
            path(made), json={"points": [point(1)]}, params={"wait": "readable"}, headers=key()
        )
        assert answer.status_code == HTTPStatus.ACCEPTED
        assert not answer.json()["readable"]
        [recorded] = await service.ledger.events(made.id, after=1)
        assert recorded.position == answer.json()["position"]

    @pytest.mark.parametrize(
        ("end", "body", "words"),
        [
            ("", {"points": []}, "a list 'points'"),
            ("", {"points": [point(1)], "more": 1}, "nothing else"),
            ("", [point(1)], "an object with a list 'points'"),
            ("", {"points": [{**point(1), "vector": [1.0]}]}, "point 1: unnamed vector is 1 num"),
            ("", {"points": [{"id": -1, "vector": VECTOR}]}, "point id -1"),
            ("/delete", {"ids": ["x"]}, "point id 'x'"),
            ("/payload", {"points": [{"id": 1}]}, "`payload` must be an object"),
        ],
    )
    async def test_what_is_wrong_is_named(
        self,
        api: httpx.AsyncClient,
        service: Service,
        made: Generation,
        end: str,
        body: Any,
        words: str,
    ) -> None:
        answer = await api.post(path(made, end), json=body, headers=key())
        assert words in refused(answer, 400, "rejected")["detail"]
        assert len(await service.ledger.events(made.id)) == 1

    async def test_what_is_not_there_and_what_is_held(
        self, api: httpx.AsyncClient, service: Service, made: Generation
    ) -> None:
        body = {"points": [{"id": 5, "payload": {"a": 1}}]}
        answer = await api.post(path(made, "/payload"), json=body, headers=key())
        assert "has no point 5," in refused(answer, 404, "not-found")["detail"]
        nowhere = await api.post(
            "/v1/collections/no/points/delete", json={"ids": [1]}, headers=key()
        )
        refused(nowhere, 404, "not-found")
        refused(await api.post(path(made), json={"points": [point(1)]}), 400, "rejected")
        made.hold_writes("a migration")
        await save(service.ledger, made, "hold", WORKER)
        held = await api.post(path(made), json={"points": [point(1)]}, headers=key())
        assert "a migration" in refused(held, 409, "conflict")["detail"]
        shown = (await api.get(f"/v1/collections/{made.physical}")).json()
        assert shown["generations"][0]["writes_held_by"] == ["a migration"]

    async def test_bodies_may_be_larger_than_those_of_other_requests(
        self, api: httpx.AsyncClient, made: Generation
    ) -> None:
        large = {"points": [point(1, text="x" * 2 * 2**20)]}
        assert (await api.post(path(made), json=large, headers=key())).status_code == HTTPStatus.OK
        huge = {"points": [point(1, text="x" * 33 * 2**20)]}
        assert "33554432 bytes" in (await api.post(path(made), json=huge, headers=key())).text
