"""Planning by HTTP, and requests that are sent again."""

import asyncio
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from adapters.bootstrap import Service
from domain.model.aggregate import Actor
from domain.model.migration import Migration
from domain.use_cases.tools import update
from tests.integration.http_api.asking import (
    WORKER,
    key,
    planned,
    refused,
)


class TestPlanning:
    async def test_a_plan_is_recorded_with_who_and_why(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        headers = {**key(), "X-Actor": "mara", "X-Request-Id": "req-7"}
        answer = await api.post("/v1/migrations", json=spec, headers=headers)
        assert answer.status_code == HTTPStatus.CREATED
        found = answer.json()
        assert answer.headers["location"] == f"/v1/migrations/{found['id']}"
        assert answer.headers["x-request-id"] == "req-7"
        assert found["state"] == "planned"
        assert len(found["plan_hash"]) == 64
        assert [step["kind"] for step in found["steps"]][:5] == [
            "adopt",
            "create",
            "flow",
            "check",
            "hand-over",
        ]
        [recorded] = await service.ledger.read(0, 10)
        assert recorded.context.actor == Actor("mara", "http-header")
        assert recorded.context.reason == "Domain isolation"
        assert recorded.context.causation_id == "req-7"

    async def test_without_a_name_the_caller_is_anonymous(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        await planned(api, spec)
        [recorded] = await service.ledger.read(0, 10)
        assert recorded.context.actor == Actor("anonymous", "none")

    async def test_yaml_is_planned_as_json_is(
        self, api: httpx.AsyncClient, spec: dict[str, Any]
    ) -> None:
        # JSON is YAML, but for a reader that went by the body instead of the type.
        text = b"# a comment makes it YAML only\n" + orjson.dumps(spec)
        headers = {**key(), "Content-Type": "application/yaml; charset=utf-8"}
        answer = await api.post("/v1/migrations", content=text, headers=headers)
        assert answer.status_code == HTTPStatus.CREATED
        assert answer.json()["id"] == (await planned(api, spec))["id"]

    async def test_a_dry_run_records_nothing(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        name = key("dry")
        answer = await api.post("/v1/migrations", json=spec, params={"dry_run": True}, headers=name)
        assert answer.status_code == HTTPStatus.OK
        assert (answer.json()["id"], answer.json()["state"]) == (None, None)
        assert (await service.ledger.head()).position == 0
        again = await api.post("/v1/migrations", json=spec, headers=name)
        assert again.json()["plan_hash"] == answer.json()["plan_hash"]

    async def test_apply_starts_it_too(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        found = await planned(api, spec, apply=True)
        assert found["state"] == "running"
        topics = [recorded.topic for recorded in await service.ledger.read(0, 10)]
        assert topics == ["migration.planned", "migration.started"]

    async def test_an_invalid_spec_lists_its_problems_and_leaves_the_key_free(
        self, api: httpx.AsyncClient, spec: dict[str, Any]
    ) -> None:
        name = key("mistaken")
        answer = await api.post("/v1/migrations", json={**spec, "reson": "x"}, headers=name)
        found = refused(answer, 422, "invalid-spec")
        assert found["problems"] == ["unknown key 'reson'; did you mean 'reason'?"]
        answer = await api.post("/v1/migrations", json=spec, headers=name)
        assert answer.status_code == HTTPStatus.CREATED

    @pytest.mark.parametrize(
        ("kind", "body", "says"),
        [
            ("application/json", b'{"a": ', "not JSON"),
            ("application/json", b"[1]", "mapping"),
            ("application/json", b'{"a":' * 500 + b"1" + b"}" * 500, "levels deep"),
            ("application/yaml", b"a: [1", "not YAML"),
            ("application/yaml", b"a: &x [1]\nb: *x", "aliases"),
            ("application/yaml", b"[" * 5000, "nested too deeply"),
        ],
    )
    async def test_a_body_that_is_no_spec_is_refused(
        self, api: httpx.AsyncClient, kind: str, body: bytes, says: str
    ) -> None:
        headers = {**key(), "Content-Type": kind}
        answer = await api.post("/v1/migrations", content=body, headers=headers)
        assert says in refused(answer, 422, "invalid-spec")["detail"]

    async def test_another_content_type_is_refused(self, api: httpx.AsyncClient) -> None:
        headers = {**key(), "Content-Type": "text/csv"}
        answer = await api.post("/v1/migrations", content=b"a,b", headers=headers)
        refused(answer, 415, "unsupported-media-type")

    async def test_a_table_that_is_not_there_is_not_found(
        self, api: httpx.AsyncClient, spec: dict[str, Any]
    ) -> None:
        wrong = {**spec, "from": {**spec["from"], "table": "public.nowhere"}}
        answer = await api.post("/v1/migrations", json=wrong, headers=key())
        assert "nowhere" in refused(answer, 404, "not-found")["detail"]


class TestIdempotency:
    @pytest.mark.parametrize("path", ["", "/x/apply", "/x/cancel", "/x/rollback"])
    async def test_every_post_needs_a_key(self, api: httpx.AsyncClient, path: str) -> None:
        path = path.replace("x", str(uuid4()))
        answer = await api.post(f"/v1/migrations{path}", json={})
        assert "Idempotency-Key" in refused(answer, 400, "rejected")["detail"]

    async def test_a_key_with_odd_characters_is_refused(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/v1/migrations", json={}, headers=key("a/b"))
        refused(answer, 400, "rejected")

    async def test_the_same_request_gets_the_first_answer(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        first = await api.post("/v1/migrations", json=spec, headers=key("k"))
        second = await api.post("/v1/migrations", json=spec, headers=key('"k"'))
        assert second.status_code == first.status_code == HTTPStatus.CREATED
        assert second.json() == first.json()
        assert (await service.ledger.head()).position == 1

    async def test_another_request_under_the_same_key_is_refused(
        self, api: httpx.AsyncClient, spec: dict[str, Any]
    ) -> None:
        await api.post("/v1/migrations", json=spec, headers=key("k"))
        other = {**spec, "name": "another"}
        answer = await api.post("/v1/migrations", json=other, headers=key("k"))
        assert "'k'" in refused(answer, 422, "key-reused")["detail"]

    async def test_a_late_repetition_does_not_start_what_was_cancelled(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        send = {"json": spec, "params": {"apply": True}, "headers": key("k")}
        first = (await api.post("/v1/migrations", **send)).json()
        await api.post(f"/v1/migrations/{first['id']}/cancel", json={"reason": "no"}, headers=key())
        await finish_rollback(service, first["id"])
        again = (await api.post("/v1/migrations", **send)).json()
        assert (again["id"], again["state"]) == (first["id"], "cancelled")
        new = (await api.post("/v1/migrations", **{**send, "headers": key()})).json()
        assert (new["attempt"], new["state"]) == (2, "running")

    async def test_requests_side_by_side_have_one_effect(
        self, api: httpx.AsyncClient, service: Service, spec: dict[str, Any]
    ) -> None:
        answers = await asyncio.gather(
            *(api.post("/v1/migrations", json=spec, headers=key("k")) for _ in range(5))
        )
        assert {answer.status_code for answer in answers} == {HTTPStatus.CREATED}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert (await service.ledger.head()).position == 1


async def finish_rollback(service: Service, migration: str) -> None:
    """What the coordinator does when nothing has to be undone."""
    stream = (await service.ledger.read(0, 1))[0].stream
    assert str(stream) == migration
    await update(service.ledger, Migration, stream, str(uuid4()), WORKER, Migration.finish_rollback)
