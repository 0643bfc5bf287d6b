"""Publish the ledger: every event, in order, at least once, by one process at a time."""

import asyncio
import contextlib
import logging
import random

from domain.model.errors import Conflict, LedgerError, Unavailable
from domain.model.recorded import Cursor, Recorded
from domain.model.timeline import Standing, Witness
from domain.ports import (
    CHANGES_TOPIC,
    EVENTS_TOPIC,
    Cursors,
    EventPublisher,
    Leaders,
    Leadership,
    Ledger,
)
from domain.use_cases.concurrently import told_to
from domain.use_cases.histories import of_another_ledger, refuse_other_history

CURSOR = "relay"
BATCH_SIZE = 1000
CHECK_SECONDS = 1.0
DRAIN_SECONDS = 3.0
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0

_LOG = logging.getLogger("migration_ledger.relay")
_RANDOM = random.SystemRandom()


class TopicTaken(Unavailable):
    """A topic has messages of another ledger; both of them could not tell what is lost.

    Attributes:
        where: the topic.
        ledger: id of the other ledger.
    """

    def __init__(self, where: str, ledger: str) -> None:
        super().__init__(
            f"{where} has messages of another ledger, {ledger}. Give each ledger a broker of its "
            "own, or delete the topics: they are filled again"
        )
        self.where = where
        self.ledger = ledger


async def relay(
    ledger: Ledger,
    cursors: Cursors,
    leaders: Leaders,
    publisher: EventPublisher,
    holder: str,
    stop: asyncio.Event,
) -> None:
    """Publish events as long as this process leads, until told to stop.

    The cursor moves only over what the broker has acknowledged. A broker that has lost messages
    gets all events again. While a server is away, another process leads, or work is halted, it
    waits. It halts all work when the topics have seen another history than the ledger's.

    Args:
        ledger: what to publish.
        cursors: keeps how far it was published.
        leaders: elects the process that publishes.
        publisher: where to.
        holder: name of this process.
        stop: ends it, after the batch at hand or within `DRAIN_SECONDS`.

    Raises:
        Rejected: the topics are not as they must be.
    """
    work = _Relay(ledger, cursors, leaders, publisher, holder)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(work.run(group))
            await told_to(stop, running)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await work.between_batches.acquire()
            running.cancel()
    except* LedgerError as failed:
        error = failed.exceptions[0]
    else:
        return
    raise error


class _Relay:
    """One relay.

    Attributes:
        between_batches: held while a batch is being published and the cursor moved.
    """

    def __init__(
        self,
        ledger: Ledger,
        cursors: Cursors,
        leaders: Leaders,
        publisher: EventPublisher,
        holder: str,
    ) -> None:
        self.between_batches = asyncio.Lock()
        self._ledger = ledger
        self._cursors = cursors
        self._leaders = leaders
        self._publisher = publisher
        self._holder = holder
        self._failures = 0
        self._ends: dict[tuple[str, int], int] = {}
        self._last = 0
        self._ahead: asyncio.Task[list[Recorded]] | None = None

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Lead and publish, again and again; the group has what is read ahead."""
        while True:
            try:
                async with self._leaders.lead(CURSOR, self._holder) as leadership:
                    await self._publish_all(leadership, group)
            except Conflict as exc:
                _LOG.warning("leadership_lost", extra={"holder": self._holder, "cause": str(exc)})
            except Unavailable as exc:
                self._failed(exc)
            finally:
                if self._ahead is not None:
                    self._ahead.cancel()
                    self._ahead = None
            await asyncio.sleep(self._delay())

    async def _publish_all(self, leadership: Leadership, group: asyncio.TaskGroup) -> None:
        """Publish whatever comes; ends by an error only."""
        standing = await self._ledger.standing()
        cursor = await self._cursors.get(CURSOR)
        await refuse_other_history(self._ledger, [Witness.of(f"cursor {CURSOR}", cursor)])
        self._publisher.begin(standing)
        self._last = 0
        if not self._failures:
            _LOG.info("leading", extra={"holder": self._holder, "position": cursor.position})
        clock = asyncio.get_running_loop().time
        check_at = clock()
        while True:
            if clock() >= check_at:
                cursor = await self._check_broker(cursor, leadership, standing)
                check_at = clock() + CHECK_SECONDS
            batch = await self._next(cursor)
            if not batch:
                self._worked()
                await self._ledger.wait(cursor.position, max(0.0, check_at - clock()))
                continue
            async with self.between_batches:
                await self._leaders.confirm(leadership)
                if len(batch) == BATCH_SIZE:
                    self._ahead = group.create_task(self._read_ahead(batch[-1].position))
                await self._publisher.publish(batch)
                self._last = batch[-1].position
                cursor = Cursor(batch[-1].position, batch[-1].hash)
                await self._cursors.advance(CURSOR, cursor, leadership)
            self._worked()

    async def _next(self, cursor: Cursor) -> list[Recorded]:
        """The next batch; most often it was read while the one before was published."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            batch = await ahead
            if batch and batch[0].position == cursor.position + 1:
                return batch
        return await self._ledger.read(cursor.position, BATCH_SIZE)

    async def _read_ahead(self, after: int) -> list[Recorded]:
        try:
            return await self._ledger.read(after, BATCH_SIZE)
        except LedgerError:
            return []  # reading it again tells

    async def _check_broker(
        self, cursor: Cursor, leadership: Leadership, standing: Standing
    ) -> Cursor:
        """Notice what the broker has lost, and start from the beginning then.

        Every event up to the cursor is a message of the events topic, so it cannot have fewer; and
        no partition gets shorter. What was published last is the last message of a partition, also
        where it was published before. The cursor moves before the topics are created: after a crash
        in between, their absence would no longer tell.
        """
        ends = await self._publisher.end_offsets()
        self._last = max(self._last, await self._compare(ends, standing))
        await self._leaders.confirm(leadership)
        messages = sum(end for (topic, _), end in ends.items() if topic == EVENTS_TOPIC)
        has_changes = any(topic == CHANGES_TOPIC for topic, _ in ends)
        shorter = any(ends.get(partition, 0) < end for partition, end in self._ends.items())
        self._ends = ends
        lost = self._last < cursor.position or messages < cursor.position or shorter
        if lost or (cursor.position and not has_changes):
            _LOG.warning(
                "broker_lost_messages",
                extra={"position": cursor.position, "messages": messages},
            )
            cursor = Cursor()
            await self._cursors.advance(CURSOR, cursor, leadership)
        await self._publisher.ensure_topics()
        return cursor

    async def _compare(self, ends: dict[tuple[str, int], int], standing: Standing) -> int:
        """Look at what was published; returns the last position on this timeline.

        It is that of partitions which were not looked at before, and 0 if there are none.

        Raises:
            TopicTaken: they published another ledger.
            Halted: they published another history of this one.
        """
        witnesses = await self._publisher.witnesses(ends)
        for witness in witnesses:
            if of_another_ledger(witness, standing):
                raise TopicTaken(witness.where, witness.ledger)
        await refuse_other_history(self._ledger, witnesses)
        return max((w.position for w in witnesses if w.timeline == standing.timeline), default=0)

    def _failed(self, exc: Unavailable) -> None:
        if not self._failures:
            _LOG.warning("unavailable", extra={"holder": self._holder, "cause": str(exc)})
        self._failures += 1

    def _worked(self) -> None:
        if self._failures:
            _LOG.info("available_again", extra={"holder": self._holder, "attempts": self._failures})
        self._failures = 0

    def _delay(self) -> float:
        longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._failures, 10))
        return _RANDOM.uniform(longest / 2, longest)
