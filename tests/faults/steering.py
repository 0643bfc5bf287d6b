"""What a person asks of the API, again and again until it is answered."""

import asyncio
import time
from http import HTTPStatus
from typing import Any

import httpx

from tests.e2e.application import Application

RETRY_SECONDS = 0.1
PEOPLE = 2
ANSWER_SECONDS = 5.0


class Steering:
    """A client of the HTTP API that sends the same request until it gets an answer.

    Args:
        api: its URL.
        patience: seconds after which it gives up.
    """

    def __init__(self, api: str, patience: float) -> None:
        self._client = httpx.AsyncClient(base_url=api, timeout=ANSWER_SECONDS)
        self._patience = patience

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def migrate(self, application: Application, key: str, *, drop: bool, batch: int) -> str:
        """Plan a migration and start it; returns its id."""
        spec = {
            "version": 1,
            "name": "split",
            "recipe": "per-domain-collections",
            "reason": "domain isolation",
            "from": {
                "connection": "default",
                "table": application.table,
                "store": "default",
                "collections": application.shared,
            },
            "to": {"store": "default"},
            "batch": {"size": batch},
            "after": "drop" if drop else "keep",
        }
        answer = await self.ask("POST", "/v1/migrations?apply=true", key, spec)
        migration: str = answer["id"]
        return migration

    async def back(self, migration: str, way: str, key: str) -> None:
        """Roll a migration back, or cancel it; several people ask for it at once."""
        path, body = f"/v1/migrations/{migration}/{way}", {"reason": "back again"}
        async with asyncio.TaskGroup() as group:
            for person in range(PEOPLE):
                group.create_task(self.ask("POST", path, f"{key}-{person}", body))

    async def settled(self, migration: str) -> dict[str, Any]:
        """Wait until nothing more happens to a migration."""
        until = time.monotonic() + self._patience
        while True:
            found = await self.ask("GET", f"/v1/migrations/{migration}")
            if found["state"] not in {"running", "rolling back"}:
                return found
            if time.monotonic() > until:
                raise TimeoutError(f"migration {migration} is still {found['state']}")
            await asyncio.sleep(RETRY_SECONDS)

    async def ask(
        self, method: str, path: str, key: str = "", body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer to a request; a server that is away, or says that another is, is asked again.

        Raises:
            TimeoutError: it never answered.
            HTTPStatusError: it refuses, or fails.
        """
        headers = {"Idempotency-Key": key} if key else {}
        until = time.monotonic() + self._patience
        while True:
            try:
                answer = await self._client.request(method, path, headers=headers, json=body)
                if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    answer.raise_for_status()
                    found: dict[str, Any] = answer.json()
                    return found
                said = answer.text
            except httpx.TransportError as error:
                said = repr(error)
            if time.monotonic() > until:
                raise TimeoutError(f"{method} {path}: {said}")
            await asyncio.sleep(RETRY_SECONDS)
