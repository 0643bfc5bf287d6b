"""Collections by HTTP."""

from http import HTTPStatus
from uuid import uuid4

import httpx
import pytest

from adapters.bootstrap import Service
from domain.use_cases.tools import save
from tests.integration.http_api.asking import SCHEMA, WORKER, generation, refused


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
