"""Requests that are sent again: the same key and request get the first answer.

The keys are the ledger's own. `http/KEY` remembers the fingerprint of the request,
`http/KEY/answered/SUBJECT` that it was carried out, and what it records has keys below
`http/KEY` too. A request that failed is carried out when it is sent again.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from fastapi import Header, Request

from adapters.bootstrap import Service
from adapters.postgres.appending import EncodedCommand, append_batch, framed
from domain.model.aggregate import Context
from domain.model.errors import KeyReused, Rejected
from domain.model.migration import Migration
from domain.model.recorded import Command

_KEY = re.compile(r"[A-Za-z0-9._:~-]{1,200}")

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description=(
            "Required. Name of this request, such as a UUID: sent again with the same body it "
            "gets the first answer, with another body it is refused (422)."
        ),
        examples=["6f1c2a52-1d57-4a53-9b0e-3c5f6a0d9e11"],
    ),
]


def required_key(key: KeyHeader = None) -> str:
    """The key of a request, with or without the quotes of a structured field.

    Raises:
        Rejected: it is missing, or has other characters than a key may have.
    """
    if key is None:
        raise Rejected("this request needs an Idempotency-Key header, such as a new UUID")
    bare = key.removeprefix('"').removesuffix('"')
    if not _KEY.fullmatch(bare):
        raise Rejected(
            "an Idempotency-Key has 1 to 200 letters, digits and the characters . _ : ~ -"
        )
    return bare


async def fingerprint(request: Request) -> bytes:
    """SHA-256 of what is asked for: method, path, query and body."""
    query = request.url.query.encode()
    asked = [request.method.encode(), request.url.path.encode(), query, await request.body()]
    return sha256(framed(asked)).digest()


@dataclass(frozen=True)
class Once:
    """A request that must have its effect once.

    Attributes:
        service: with the ledger that remembers it.
        key: its idempotency key.
        fingerprint: SHA-256 of what is asked for.
    """

    service: Service
    key: str
    fingerprint: bytes

    def part(self, name: str) -> str:
        """The ledger's key for something that the request records."""
        return f"http/{self.key}/{name}"

    async def claim(self) -> None:
        """Take the key for this request; again changes nothing.

        Raises:
            KeyReused: another request has it.
        """
        command = EncodedCommand(f"http/{self.key}", self.fingerprint, b"{}", [])
        async with self.service.database.connection() as connection:
            [outcome] = await append_batch(connection, [command])
        if outcome.kind == "reused":
            raise KeyReused(self.key)

    async def answered(self, subject: UUID) -> bool:
        """Whether the request was carried out for this migration, generation or version."""
        key = self.part(f"answered/{subject}")
        return await self.service.ledger.answer(key) is not None

    async def answered_attempt(self, spec: dict[str, object]) -> Migration | None:
        """The migration of this spec for which the request was carried out, or None."""
        attempt = 1
        while True:
            stream = Migration.create_id(spec, attempt)
            found = await self.service.ledger.load(Migration, stream)
            if found is None or await self.answered(stream):
                return found
            attempt += 1

    async def finish(self, subject: UUID, context: Context) -> None:
        """Remember that the request was carried out for this migration, generation or version."""
        command = Command(self.part(f"answered/{subject}"), (), context)
        await self.service.ledger.append(command)
