"""Steering and watching migrations by HTTP."""

from dataclasses import replace
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from adapters.bootstrap import Service
from adapters.settings import Settings
from domain.use_cases.tools import save
from projections.migrations import Migrations
from tests.integration.http_api.asking import (
    WORKER,
    add_source,
    generation,
    key,
    planned,
    projected,
    refused,
)


class TestSteering:
    async def test_apply_needs_the_hash_that_was_read(
        self, api: httpx.AsyncClient, spec: dict[str, Any]
    ) -> None:
        found = await planned(api, spec)
        path = f"/v1/migrations/{found['id']}/apply"
        wrong = {"plan_hash": "0" * 64, "reason": "go"}
        refused(await api.post(path, json=wrong, headers=key()), 409, "conflict")
        asked = {"plan_hash": found["plan_hash"], "reason": "go"}
        answer = await api.post(path, json=asked, headers=key())
        assert answer.status_code == HTTPStatus.ACCEPTED
        assert answer.json()["state"] == "running"
        assert answer.json()["asked_reason"] == "go"

    async def test_a_stale_plan_is_refused_with_its_drift(
        self, api: httpx.AsyncClient, settings: Settings, spec: dict[str, Any]
    ) -> None:
        found = await planned(api, spec)
        connection = await asyncpg.connect(settings.database_url)
        await add_source(connection, "Later")
        await connection.close()
        answer = await api.post(
            f"/v1/migrations/{found['id']}/apply",
            json={"plan_hash": found["plan_hash"], "reason": "go"},
            headers=key(),
        )
        assert refused(answer, 409, "plan-stale")["problems"]

    @pytest.mark.parametrize("action", ["apply", "cancel", "rollback"])
    async def test_a_reason_is_required(self, api: httpx.AsyncClient, action: str) -> None:
        answer = await api.post(
            f"/v1/migrations/{uuid4()}/{action}", json={"plan_hash": "x"}, headers=key()
        )
        found = refused(answer, 422, "invalid-request")
        assert any("body.reason" in sentence for sentence in found["problems"])

    @pytest.mark.parametrize("action", ["apply", "cancel", "rollback"])
    async def test_what_does_not_exist_is_not_found(
        self, api: httpx.AsyncClient, action: str
    ) -> None:
        body = {"reason": "r", **({"plan_hash": "x"} if action == "apply" else {})}
        answer = await api.post(f"/v1/migrations/{uuid4()}/{action}", json=body, headers=key())
        refused(answer, 404, "not-found")

    async def test_what_was_only_planned_is_not_rolled_back(
        self, api: httpx.AsyncClient, spec: dict[str, Any]
    ) -> None:
        found = await planned(api, spec)
        answer = await api.post(
            f"/v1/migrations/{found['id']}/rollback", json={"reason": "r"}, headers=key()
        )
        assert "only planned" in refused(answer, 400, "rejected")["detail"]

    async def test_a_rollback_records_who_and_why_once(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        found = await planned(api, spec, apply=True)
        path = f"/v1/migrations/{found['id']}/rollback"
        headers = {**key(), "X-Actor": "mara"}
        for _ in range(2):
            answer = await api.post(path, json={"reason": "wrong window"}, headers=headers)
            assert answer.status_code == HTTPStatus.ACCEPTED
            assert answer.json()["state"] == "rolling back"
        *_, last = await service.ledger.read(0, 10)
        assert (last.position, last.topic) == (3, "migration.rollback-requested")
        assert last.context.actor.id == "mara"
        assert last.context.reason == "wrong window"
        assert last.context.correlation_id == found["id"]


class TestWatching:
    async def test_a_client_reads_its_own_write_before_any_projector(
        self, api: httpx.AsyncClient, spec: dict[str, Any]
    ) -> None:
        found = await planned(api, spec)
        shown = (await api.get(f"/v1/migrations/{found['id']}")).json()
        assert shown["state"] == "planned"
        assert shown["progress"]["rate"] == 0
        assert shown["plan_hash"] == found["plan_hash"]

    async def test_what_the_projector_has_not_seen_is_added_to_what_it_counted(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        found = await planned(api, spec)
        await projected(service)
        build = await service.views.open(Migrations.name, Migrations.shape)
        documents = await service.views.load(build, [found["id"]])
        documents[found["id"]]["unplaced"] = 7
        await service.views.store(build, dict(documents), build.cursor)
        shown = (await api.get(f"/v1/migrations/{found['id']}")).json()
        assert (shown["state"], shown["progress"]["failed"]) == ("planned", 7)
        await api.post(
            f"/v1/migrations/{found['id']}/apply",
            json={"plan_hash": found["plan_hash"], "reason": "go"},
            headers=key(),
        )
        shown = (await api.get(f"/v1/migrations/{found['id']}")).json()
        assert (shown["state"], shown["progress"]["failed"]) == ("running", 7)

    async def test_an_id_that_is_none_is_refused(self, api: httpx.AsyncClient) -> None:
        refused(await api.get("/v1/migrations/nonsense"), 422, "invalid-request")
        refused(await api.get(f"/v1/migrations/{uuid4()}"), 404, "not-found")

    async def test_pages_follow_each_other_and_states_are_filtered(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        made = [
            (await planned(api, {**spec, "name": f"m{n}"}, apply=n == 0))["id"] for n in range(3)
        ]
        await projected(service)
        seen, address = [], "/v1/migrations?limit=2"
        while address:
            answer = await api.get(address)
            seen += [item["id"] for item in answer.json()["items"]]
            linked = answer.links.get("next", {}).get("url", "")
            assert bool(linked) == (answer.json()["next"] is not None)
            address = linked
        assert seen == sorted(made)
        running = (await api.get("/v1/migrations", params={"state": "running"})).json()
        assert [item["id"] for item in running["items"]] == [made[0]]
        refused(await api.get("/v1/migrations", params={"state": "odd"}), 422, "invalid-request")

    async def test_operations_are_paged_in_the_order_of_the_ledger(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        found = await planned(api, spec, apply=True)
        await planned(api, {**spec, "name": "another"})
        context = replace(WORKER, correlation_id=found["id"])
        await save(service.ledger, generation(), "made", context)
        await projected(service)
        path = f"/v1/migrations/{found['id']}/operations"
        first = (await api.get(path, params={"limit": 2})).json()
        assert [one["what"] for one in first["items"]] == ["migration.planned", "migration.started"]
        assert first["through"] == 4
        second = (await api.get(path, params={"after": first["next"]})).json()
        assert [one["what"] for one in second["items"]] == ["generation.created"]
        assert second["next"] is None
        refused(await api.get(f"/v1/migrations/{uuid4()}/operations"), 404, "not-found")
