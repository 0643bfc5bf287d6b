"""Recording change sets: manifests, heads and events in one transaction."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from adapters.postgres.appending import (
    EncodedCommand,
    NotAppendedError,
    Outcome,
    append_last,
    content_of,
    earlier_outcome,
    encode_command,
    framed,
)
from adapters.postgres.bodies import claim_bodies
from adapters.postgres.change_sets import Known, content_of_draft, fold
from adapters.postgres.connection import Database
from adapters.postgres.erasures import (
    follow_erasures,
    generations_erased_from,
    lock_subjects,
    refuse_erased,
    refuse_erasures,
    refuse_gone,
)
from adapters.postgres.generations import (
    LockedGeneration,
    follow,
    generations_of,
    lock_generations,
    refuse_change_sets,
)
from adapters.postgres.heads import heads_among, known_heads, write_heads
from adapters.postgres.mapper import encode_context, to_stored
from adapters.postgres.objects import put_objects
from domain.model.aggregate import Context
from domain.model.errors import PointChanged, Rejected, WritesHeld
from domain.model.generation import Generation
from domain.model.points import id_of
from domain.model.recorded import ChangeSetDraft, Command


@dataclass(frozen=True)
class Request:
    """What is to be recorded together.

    Attributes:
        key: idempotency key.
        context: who, why, in answer to what.
        drafts: change sets, in order.
        events: further events, after those of the change sets.
        bodies: small objects to keep, by address.
        content: what the key stands for; None for what is recorded.
    """

    key: str
    context: Context
    drafts: Sequence[ChangeSetDraft]
    events: Sequence[AggregateEvent]
    bodies: Mapping[str, bytes]
    content: bytes | None

    def content_hash(self) -> bytes:
        """SHA-256 of what the key stands for."""
        if self.content is not None:
            return sha256(self.content).digest()
        return sha256(
            framed(
                [
                    *(content_of_draft(draft) for draft in self.drafts),
                    b"events",
                    *content_of(to_stored(event) for event in self.events),
                ]
            )
        ).digest()


async def record(database: Database, request: Request) -> Outcome:
    """Record change sets and events.

    Raises:
        Rejected: a generation does not exist or is gone, or a draft is malformed.
        Conflict: a point is not what a draft is based on, or live writes are held.
    """
    refuse_change_sets(request.events)
    content_hash = request.content_hash()
    try:
        async with database.transaction() as connection:
            earlier = await earlier_outcome(connection, request.key, content_hash)
            if earlier is not None:
                return earlier
            locked = await lock_generations(connection, _streams(request))
            _refuse_unwritable(request.drafts, locked)
            await _refuse_elsewhere(connection, request.drafts)
            await lock_subjects(connection, request.events, locked)
            changes = await _write_change_sets(connection, request, locked)
            events = [*changes, *request.events]
            await follow(connection, events)
            await follow_erasures(connection, request.events, locked)
            return await append_last(
                connection,
                EncodedCommand(
                    key=request.key,
                    request_hash=content_hash,
                    context=encode_context(request.context),
                    events=[to_stored(event) for event in events],
                ),
            )
    except NotAppendedError as stopped:
        return stopped.outcome


async def append_to_generations(database: Database, command: Command) -> Outcome:
    """Append a command with events of generations, whose rows are locked first."""
    refuse_change_sets(command.events)
    refuse_erasures(command.events)
    encoded = encode_command(command)
    try:
        async with database.transaction() as connection:
            earlier = await earlier_outcome(connection, command.key, encoded.request_hash)
            if earlier is not None:
                return earlier
            await lock_generations(connection, generations_of(command.events))
            await follow(connection, command.events)
            return await append_last(connection, encoded)
    except NotAppendedError as stopped:
        return stopped.outcome


async def _write_change_sets(
    connection: Any, request: Request, locked: dict[UUID, LockedGeneration]
) -> list[Generation.ChangeSetRecorded]:
    keys: dict[UUID, set[bytes]] = {}
    for draft in request.drafts:
        keys.setdefault(draft.generation, set()).update(draft.keys)
    known: dict[UUID, dict[bytes, Known]] = {
        stream: await known_heads(connection, locked[stream].gid, wanted)
        for stream, wanted in keys.items()
    }
    existing = {stream: set(heads) for stream, heads in known.items()}
    versions = {stream: locked[stream].recorded for stream in keys}
    folded = await asyncio.to_thread(fold, request.drafts, versions, known)
    named = (changes.bodies() for changes in folded.changes.values())
    claimed = await claim_bodies(connection, set().union(*named), given=request.bodies)
    for changes in folded.changes.values():
        await refuse_erased(connection, claimed, changes.places())
    bodies = claimed.numbers
    # What came with drafts and changed nothing is not kept: nobody would find it again.
    needed = claimed.numbers if request.drafts else request.bodies
    given = {address: request.bodies[address] for address in request.bodies.keys() & needed.keys()}
    await put_objects(connection, {**given, **folded.manifests})
    for stream, changes in folded.changes.items():
        gid = locked[stream].gid
        await write_heads(connection, gid, changes, existing[stream], bodies)
        await refuse_gone(connection, gid, changes)
    return folded.events


def _streams(request: Request) -> set[UUID]:
    return (
        {draft.generation for draft in request.drafts}
        | generations_of(request.events)
        | generations_erased_from(request.events)
    )


def _refuse_unwritable(
    drafts: Sequence[ChangeSetDraft], locked: dict[UUID, LockedGeneration]
) -> None:
    for draft in drafts:
        generation = locked.get(draft.generation)
        if generation is None:
            raise Rejected(f"generation {draft.generation} does not exist")
        if generation.gone:
            raise Rejected(f"collection {generation.physical} was dropped or released already")
        if draft.live and generation.holders:
            raise WritesHeld(generation.physical, generation.holders)


async def _refuse_elsewhere(connection: Any, drafts: Sequence[ChangeSetDraft]) -> None:
    for draft in drafts:
        if not draft.unless_in:
            continue
        hashes = dict(zip(draft.keys, draft.hashes, strict=True))
        for _, key, hash_ in await heads_among(connection, draft.unless_in, draft.keys):
            if hashes[key] != hash_:
                raise PointChanged(str(id_of(key)))
