"""Collections by HTTP."""

from http import HTTPStatus
from uuid import uuid4

import httpx
import pytest

from adapters.bootstrap import Service
from domain.model.generation import Generation
from domain.model.points import PointBatch, encode_dense, key_of
from domain.use_cases.tools import save
from tests.integration.http_api.asking import (
    SCHEMA,
    WORKER,
    generation,
    key,
    projected,
    refused,
)


class TestCollections:
    async def test_collections_are_listed_page_by_page(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        made = [generation(f"docs__g{n}") for n in range(3)]
        for one in made:
            await save(service.ledger, one, str(one.id), WORKER)
        first = (await api.get("/v1/collections", params={"limit": 2})).json()
        rest = (await api.get("/v1/collections", params={"after": first["next"]})).json()
        seen = [item["generation"] for item in first["items"] + rest["items"]]
        assert seen == sorted(str(one.id) for one in made)
        assert (first["items"][0]["recorded"], first["items"][0]["applied"]) == (1, 0)

    async def test_a_collection_is_found_by_its_alias_and_verified(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        physical = f"docs_{uuid4().hex[:12]}"
        store = service.stores.store("default")
        made = generation(physical)
        await save(service.ledger, made, "made", WORKER)
        await store.create(physical, SCHEMA)
        await store.point_alias(f"{physical}_alias", physical)
        shown = (await api.get(f"/v1/collections/{physical}_alias")).json()
        assert (shown["physical"], shown["points_in_the_store"]) == (physical, 0)
        assert [one["generation"] for one in shown["generations"]] == [str(made.id)]
        verify = f"/v1/collections/{physical}_alias/verify"
        refused(await api.get(verify), 409, "conflict")  # nothing is applied yet
        lease = await service.applications.acquire(made.id, "one", 5.0, 1.0)
        assert lease is not None
        await service.applications.receipt(lease, 1, 0, WORKER)
        answer = await api.get(verify)
        assert answer.status_code == HTTPStatus.OK, answer.text
        found = answer.json()
        assert (found["equal"], found["points"], found["through"]) == (True, 0, 1)
        assert (found["meanwhile"], found["differences"]) == (0, [])
        await store.remove_alias(f"{physical}_alias")
        await store.drop(physical)

    @pytest.mark.parametrize(
        "path", ["nowhere", "nowhere/verify", "nowhere?store=odd", "nowhere/verify?store=odd"]
    )
    async def test_what_is_nowhere_is_not_found(self, api: httpx.AsyncClient, path: str) -> None:
        refused(await api.get(f"/v1/collections/{path}"), 404, "not-found")


async def applied(service: Service, made: Generation) -> str:
    """Let the store have an empty collection as recorded; returns its name."""
    await save(service.ledger, made, f"made {made.physical}", WORKER)
    await service.stores.store("default").create(made.physical, SCHEMA)
    lease = await service.applications.acquire(made.id, "one", 5.0, 1.0)
    assert lease is not None
    await service.applications.receipt(lease, 1, 0, WORKER)
    return made.physical


class TestVersions:
    async def test_a_label_is_given_once_and_listed_page_by_page(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        made = generation(f"docs_{uuid4().hex[:12]}")
        await save(service.ledger, made, "made", WORKER)
        path = f"/v1/collections/{made.physical}/versions"
        first = key("first")
        answers = []
        for label, header in (("one", first), ("two", key()), ("three", key())):
            asked = {"label": label, "reason": "OPS-412"}
            answers.append(await api.post(path, json=asked, headers=header))
            made.trigger_event(Generation.SchemaRestored, schema=SCHEMA.to_json())
            made.point_alias(f"alias of {label}", None)
            await save(service.ledger, made, f"after {label}", WORKER)
        assert [a.status_code for a in answers] == [HTTPStatus.CREATED] * 3, answers[-1].text
        assert [a.json()["through"] for a in answers] == [1, 3, 5]
        repeated = await api.post(path, json={"label": "one", "reason": "OPS-412"}, headers=first)
        assert repeated.json() == answers[0].json()
        await projected(service)
        page = (await api.get(path, params={"limit": 2})).json()
        rest = (await api.get(path, params={"limit": 2, "after": page["next"]})).json()
        assert rest["next"] is None
        items = page["items"] + rest["items"]
        assert [(i["label"], i["not_rebuildable"], i["reason"]) for i in items] == [
            (label, None, "OPS-412") for label in ("one", "two", "three")
        ]
        assert items[0]["vectors"] == SCHEMA.to_json()["vectors"]

    async def test_what_is_wrong_with_a_label(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        made = generation(f"docs_{uuid4().hex[:12]}")
        await save(service.ledger, made, "made", WORKER)
        path = f"/v1/collections/{made.physical}/versions"
        for asked, status, kind in (
            ({"label": "412"}, 400, "rejected"),
            ({"label": "x", "at": "never"}, 404, "not-found"),
            ({"lable": "x"}, 422, "invalid-request"),
        ):
            refused(await api.post(path, json=asked, headers=key()), status, kind)
        refused(await api.post(path, json={"label": "x"}), 400, "rejected")
        refused(await api.get("/v1/collections/nowhere/versions"), 404, "not-found")


class TestRepair:
    async def test_just_what_differs_is_recorded(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        name = await applied(service, generation(f"docs_{uuid4().hex[:12]}"))
        store, repair = service.stores.store("default"), f"/v1/collections/{name}/repair"
        stranger = PointBatch([key_of(7)], [b"{}"], {"": [encode_dense([1.0, 0.0, 0.0, 0.0])]})
        await store.upsert(name, stranger)
        refused(await api.post(repair, json={}, headers=key()), 422, "invalid-request")
        kept = await api.post(repair, json={"reason": "a", "keep_extra": True}, headers=key())
        assert kept.status_code == HTTPStatus.ACCEPTED, kept.text
        assert (kept.json()["points"], kept.json()["kept"]) == (0, 1)
        answer = await api.post(repair, json={"reason": "OPS-412"}, headers=key())
        found = answer.json()
        assert (found["points"], found["kept"], found["differences"]) == (1, 0, [])
        (last,) = await service.ledger.events(Generation.create_id("default", name, 1), after=1)
        assert (last.topic, last.version) == ("generation.repair-recorded", found["through"])
        assert last.context.reason == "OPS-412"
        await store.drop(name)

    async def test_what_is_nowhere_is_not_repaired(self, api: httpx.AsyncClient) -> None:
        answer = await api.post(
            "/v1/collections/nowhere/repair", json={"reason": "a"}, headers=key()
        )
        refused(answer, 404, "not-found")
