"""What the database keeps beside the events, made from them: where everything stands.

Heads of points are made afterwards, see `head_history`.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import orjson
from eventsourcing.utils import TopicError

from adapters.postgres.erasures import rewrite
from adapters.postgres.generations import follow
from adapters.postgres.mapper import COLUMNS, to_recorded
from domain.model.aggregate import LedgerAggregate
from domain.model.application import Application
from domain.model.erasure import Erasure
from domain.model.errors import Rejected
from domain.model.flow import Flow, FlowRange
from domain.model.generation import Generation
from domain.model.recorded import Recorded
from domain.model.retention import Retention
from domain.model.timeline import Timeline

A = TypeVar("A", bound=LedgerAggregate)

_PAGE = 5000
_TIMEOUT = 3600.0  # seconds, as all events are looked at
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

# The last version of each stream.
_STREAMS = """
INSERT INTO streams (stream, version, kind)
SELECT DISTINCT ON (stream) stream, version, split_part(topic, '.', 1)
FROM events ORDER BY stream, version DESC
"""

# The next events of one kind.
_EVENTS = f"""
SELECT {COLUMNS} FROM events WHERE split_part(topic, '.', 1) = $1 AND position > $2
ORDER BY position LIMIT $3
"""  # noqa: S608

# Heads are not there yet.
_LACKS_HEADS = "UPDATE generations SET has_past = false WHERE recorded > 1"

# How far each store is by what appliers have reported.
_APPLIED = """
UPDATE applications a SET applied = u.applied, halted_at = u.halted_at
FROM unnest($1::uuid[], $2::int[], $3::int[]) AS u (generation, applied, halted_at)
WHERE a.generation = u.generation
"""

# A flow that was planned.
_FLOW = "INSERT INTO flows (flow, next_number, source, until) VALUES ($1, $2, $3, $4)"

# What it has to read next.
_RANGE = "INSERT INTO flow_ranges (flow, number, request) VALUES ($1, $2, $3)"


async def derive(connection: Any) -> int:
    """Fill the tables that are derived from events, which are empty, in the caller's transaction.

    Returns the number of the last timeline.

    Raises:
        Rejected: an event is of a kind that this program does not know.
    """
    await connection.execute(_STREAMS, timeout=_TIMEOUT)
    await _generations(connection)
    await _retention(connection)
    await _applications(connection)
    await _flows(connection)
    await _erasures(connection)
    return await _timeline(connection)


async def _generations(connection: Any) -> None:
    async for page in _pages(connection, Generation.TOPIC):
        await follow(connection, [recorded.event for recorded in page])
    await connection.execute(_LACKS_HEADS)


async def _retention(connection: Any) -> None:
    async for page in _pages(connection, Retention.TOPIC):
        await follow(connection, [recorded.event for recorded in page])


async def _applications(connection: Any) -> None:
    known: dict[UUID, Application] = {}
    async for page in _pages(connection, Application.TOPIC):
        for recorded in page:
            _grow(known, Application, recorded)
    await connection.execute(
        _APPLIED,
        [UUID(one.generation) for one in known.values()],
        [one.applied for one in known.values()],
        [one.halted_at for one in known.values()],
    )


async def _flows(connection: Any) -> None:
    """The queue: of every flow that is not at its end, the range that follows the last one.

    A flow back that was to begin with a rollback waits until a rollback wakes it.
    """
    flows: dict[UUID, Flow] = {}
    last: dict[UUID, FlowRange.Created] = {}
    async for page in _pages(connection, Flow.TOPIC):
        for recorded in page:
            event = recorded.event
            if isinstance(event, FlowRange.Created):
                flow = UUID(event.flow)
                if flow not in last or last[flow].number < event.number:
                    last[flow] = event
            else:
                _grow(flows, Flow, recorded)
    for stream, planned in flows.items():
        done = last.get(stream)
        number = 0 if done is None else done.number + 1
        request = planned.first_request if done is None else done.following
        until = planned.until or (_LONG_AGO if planned.reverses else None)
        next_number = number + (request is not None)
        await connection.execute(_FLOW, stream, next_number, planned.source, until)
        if request is not None:
            await connection.execute(_RANGE, stream, number, orjson.dumps(request).decode())


async def _erasures(connection: Any) -> None:
    """Which bodies are there instead of which; what is erased is left out when heads are made."""
    async for page in _pages(connection, Erasure.TOPIC):
        for recorded in page:
            if isinstance(recorded.event, Erasure.ObjectsRewritten):
                await rewrite(connection, recorded.event.objects)


def _grow(known: dict[UUID, A], kind: type[A], recorded: Recorded) -> None:
    """Let the aggregate of an event take it."""
    grown = recorded.event.mutate(known.get(recorded.stream))
    if isinstance(grown, kind):
        known[recorded.stream] = grown


async def _timeline(connection: Any) -> int:
    last = 1
    async for page in _pages(connection, Timeline.TOPIC):
        for recorded in page:
            if isinstance(recorded.event, Timeline.Created):
                last = recorded.event.number
    return last


async def _pages(connection: Any, kind: str) -> AsyncIterator[list[Recorded]]:
    after = 0
    while rows := await connection.fetch(_EVENTS, kind, after, _PAGE, timeout=_TIMEOUT):
        try:
            page = [to_recorded(row) for row in rows]
        except TopicError as error:
            raise Rejected(
                f"an event after position {after} is of a kind that this program does not know "
                f"({error}); use a newer program"
            ) from error
        yield page
        after = rows[-1]["position"]
