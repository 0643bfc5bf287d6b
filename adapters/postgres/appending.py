"""Commands on their way into the `append` function of the database, and its answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import pack
from typing import Any

from eventsourcing.domain import AggregateEvent
from eventsourcing.persistence import StoredEvent

from adapters.postgres.mapper import encode_context, plain_uuid, to_stored
from domain.model.aggregate import Context
from domain.model.errors import KeyReused, VersionConflict
from domain.model.recorded import Answer, Command

# Append commands and answer each, in order.
_APPEND = """
SELECT outcome, first_position, event_count, conflict_stream, conflict_expected, conflict_actual
FROM append($1::text[], $2::bytea[], $3::bytea[], $4::int[],
            $5::uuid[], $6::int[], $7::text[], $8::bytea[])
"""

# Append a command with one event; its position, or NULL if something stands against it.
_APPEND_ONE = """
SELECT append_one($1::text, $2::bytea, $3::bytea, $4::uuid, $5::int, $6::text, $7::bytea)
"""

# What a key was answered.
_ANSWER = "SELECT request_hash, position, count FROM commands WHERE key = $1"


@dataclass(frozen=True)
class EncodedCommand:
    """A command in the form in which it is stored.

    Attributes:
        key: idempotency key; None for a command that its transaction protects otherwise.
        request_hash: SHA-256 of what was asked for.
        context: JSON.
        events: with their versions.
    """

    key: str | None
    request_hash: bytes
    context: bytes
    events: Sequence[StoredEvent]


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        key: its key.
        kind: ``appended``, ``repeated``, ``reused`` or ``conflict``.
        position: of its first event, 0 if it has none.
        count: number of its events.
        conflict: stream, expected and actual version, where `kind` is ``conflict``.
    """

    key: str | None
    kind: str
    position: int
    count: int
    conflict: tuple[str, int, int] | None = None

    @property
    def appended(self) -> bool:
        """Whether the command changed anything."""
        return self.kind == "appended"

    @property
    def last(self) -> int:
        """Position of its last event, 0 if it has none."""
        return self.position + self.count - 1 if self.count else 0

    def answer(self) -> Answer:
        """The answer for the caller.

        Raises:
            VersionConflict: a stream was at another version.
            KeyReused: the key was used for other content.
        """
        if self.conflict is not None:
            raise VersionConflict(*self.conflict)
        if self.kind == "reused":
            raise KeyReused(self.key or "")
        return Answer(self.position, self.count, repeated=self.kind == "repeated")


class NotAppendedError(Exception):
    """Rolls a transaction back whose command turned out to be repeated or in conflict."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.kind)
        self.outcome = outcome


def encode_command(command: Command) -> EncodedCommand:
    """The stored form of a command; its content is its events without their versions.

    A caller that repeats a command after a crash loads its aggregate again, and expects the version
    that the first attempt made: it must get the first answer and not a refusal.
    """
    events = [to_stored(event) for event in command.events]
    return EncodedCommand(
        key=command.key,
        request_hash=sha256(framed(content_of(events))).digest(),
        context=encode_context(command.context),
        events=events,
    )


def encode_events(events: Sequence[AggregateEvent], context: Context) -> EncodedCommand:
    """The stored form of events that need no key."""
    return EncodedCommand(
        key=None,
        request_hash=b"",
        context=encode_context(context),
        events=[to_stored(event) for event in events],
    )


def content_of(events: Iterable[StoredEvent]) -> Iterable[bytes]:
    """What identifies events as the content of a request."""
    for event in events:
        yield str(event.originator_id).encode()
        yield event.topic.encode()
        yield event.state


def framed(parts: Iterable[bytes]) -> bytes:
    """Parts one after the other, each with its length before it."""
    return b"".join(pack(">q", len(part)) + part for part in parts)


async def append_alone(connection: Any, command: EncodedCommand) -> Outcome:
    """Append one command in a transaction of its own, with as little to do as it needs."""
    if len(command.events) == 1:
        [event] = command.events
        position = await connection.fetchval(
            _APPEND_ONE,
            command.key,
            command.request_hash,
            command.context,
            event.originator_id,
            event.originator_version,
            event.topic,
            event.state,
        )
        if position is not None:
            return Outcome(command.key, "appended", position, 1)
    [outcome] = await append_batch(connection, [command])
    return outcome


async def append_batch(connection: Any, commands: Sequence[EncodedCommand]) -> list[Outcome]:
    """Append commands with different keys in one call."""
    events = [event for command in commands for event in command.events]
    rows = await connection.fetch(
        _APPEND,
        [command.key for command in commands],
        [command.request_hash for command in commands],
        [command.context for command in commands],
        [len(command.events) for command in commands],
        [event.originator_id for event in events],
        [event.originator_version for event in events],
        [event.topic for event in events],
        [event.state for event in events],
    )
    return [_outcome(command, row) for command, row in zip(commands, rows, strict=True)]


async def append_last(connection: Any, command: EncodedCommand) -> Outcome:
    """Append one command as the last statement of a transaction.

    Raises:
        NotAppendedError: the transaction must be rolled back.
    """
    [outcome] = await append_batch(connection, [command])
    if not outcome.appended:
        raise NotAppendedError(outcome)
    return outcome


async def earlier_outcome(
    connection: Any, key: str, request_hash: bytes | None = None
) -> Outcome | None:
    """What became of a key before, for this content or whatever content."""
    row = await connection.fetchrow(_ANSWER, key)
    if row is None:
        return None
    if request_hash not in (None, row["request_hash"]):
        return Outcome(key, "reused", 0, 0)
    return Outcome(key, "repeated", row["position"], row["count"])


def _outcome(command: EncodedCommand, row: Any) -> Outcome:
    conflict = None
    if row["outcome"] == "conflict":
        conflict = (
            str(plain_uuid(row["conflict_stream"])),
            row["conflict_expected"],
            row["conflict_actual"],
        )
    return Outcome(command.key, row["outcome"], row["first_position"], row["event_count"], conflict)
