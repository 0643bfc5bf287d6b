"""The ledger as a recorder of the `eventsourcing` library: a synchronous facade for its test cases.

It translates and adds nothing: events of the library travel as events of an aggregate, so that they
go the way of every event; its versions count from 0 and ours from 1; its names of exceptions are
others. It selects topics itself, because the library asks for several and the ledger for a prefix.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from typing import Any, TypeVar
from uuid import UUID, uuid4

from anyio.from_thread import BlockingPortal
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    Notification,
    StoredEvent,
    Subscription,
)

from adapters.postgres.ledger import PostgresLedger
from domain.model.aggregate import NOT_RECORDED, LedgerAggregate
from domain.model.errors import VersionConflict
from domain.model.recorded import Command, Recorded
from tests.contract.builders import CONTEXT

PAGE = 500
T = TypeVar("T")


class Carrier(LedgerAggregate):
    """A stream of the library's events."""

    TOPIC = "test-carrier"

    class Created(LedgerAggregate.Created):
        TOPIC = "test-carrier.created"

    class Carried(LedgerAggregate.Event):
        TOPIC = "test-carrier.carried"
        topic: str
        state: str


class LedgerRecorder(ApplicationRecorder):
    """Calls the ledger, which lives in the loop of another thread.

    Args:
        portal: to that thread.
        ledger: that is read.
        other: the same one as another process has it; they append in turns.
    """

    def __init__(
        self, portal: BlockingPortal, ledger: PostgresLedger, other: PostgresLedger
    ) -> None:
        self._portal = portal
        self._ledger = ledger
        self._writers = cycle([ledger, other])

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        command = Command(str(uuid4()), [_carried(stored) for stored in stored_events], CONTEXT)
        try:
            writer = next(self._writers)
            answer = self._call(lambda: writer.append(command))
        except VersionConflict as error:
            raise IntegrityError from error
        return list(range(answer.position, answer.position + answer.count))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        assert isinstance(originator_id, UUID)
        through = None if lte is None else lte + 1
        after = 0 if gt is None else gt + 1
        recorded = self._call(
            lambda: self._ledger.events(originator_id, after=after, through=through)
        )
        found = [StoredEvent(**_stored(one)) for one in recorded]
        return (found[::-1] if desc else found)[:limit]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = (start or 0) - (start is not None and inclusive_of_start)
        found: list[Notification] = []
        while len(found) < limit and (page := self._read(after, PAGE if topics else limit)):
            after = page[-1].position
            found += [
                Notification(id=one.position, **stored)
                for one in page
                if (stop is None or one.position <= stop)
                and ((stored := _stored(one))["topic"] in topics or not topics)
            ]
            if stop is not None and after >= stop:
                break
        return found[:limit]

    def max_notification_id(self) -> int | None:
        return self._call(self._ledger.head).position or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> "TailOfLedger":
        return TailOfLedger(self, gt, topics)

    def wait(self, after: int) -> None:
        self._call(lambda: self._ledger.wait(after, 10))

    def _read(self, after: int, limit: int) -> list[Recorded]:
        return self._call(lambda: self._ledger.read(after, limit))

    def _call(self, make: Callable[[], Awaitable[T]]) -> T:
        return self._portal.call(make)


class TailOfLedger(Subscription[LedgerRecorder]):
    """Notifications as they come."""

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            after = self._last_notification_id or 0
            found = self._recorder.select_notifications(
                after, 1, topics=self._topics, inclusive_of_start=False
            )
            if found:
                self._last_notification_id = found[0].id
                return found[0]
            self._recorder.wait(max(after, self._recorder.max_notification_id() or 0))
        raise StopIteration


def _carried(stored: StoredEvent) -> Carrier.Carried:
    assert isinstance(stored.originator_id, UUID)
    return Carrier.Carried(
        originator_id=stored.originator_id,
        originator_version=stored.originator_version + 1,
        timestamp=NOT_RECORDED,
        topic=stored.topic,
        state=stored.state.decode(),
    )


def _stored(recorded: Recorded) -> dict[str, Any]:
    event = recorded.event
    assert isinstance(event, Carrier.Carried)
    return {
        "originator_id": recorded.stream,
        "originator_version": recorded.version - 1,
        "topic": event.topic,
        "state": event.state.encode(),
    }
