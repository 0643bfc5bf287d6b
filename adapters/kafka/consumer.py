"""The changes of generations, for appliers."""

import asyncio
import logging
import re
from collections.abc import Collection
from typing import Any, Self
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError

from adapters.kafka.broker import Broker
from adapters.kafka.closing import CLOSE_SECONDS, stop_consumer
from adapters.kafka.cloud_events import Change, Delivery, Message, decode
from adapters.kafka.failures import translated
from adapters.kafka.progress import Progress
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import CHANGES, partition_of
from domain.model.errors import Rejected, Unavailable

SESSION_SECONDS = 6.0
HEARTBEAT_SECONDS = 1.5
POLL_SECONDS = 0.2
COMMIT_SECONDS = 0.5
CHECK_SECONDS = 1.0
RETRY_SECONDS = 0.5
DEADLINE_SECONDS = 5.0
# A request to join waits until the others have, so it takes longer than a session.
REQUEST_SECONDS = SESSION_SECONDS * 2
# A member that was killed is noticed after a session; then the others join again.
SETTLE_SECONDS = SESSION_SECONDS * 3
MAX_POLL_MILLISECONDS = 24 * 3600 * 1000
FETCHED_AT_ONCE = 1000  # changes

_LOG = logging.getLogger("migration_ledger.consumer")
# As a pattern, because a topic that is subscribed by its name is created by asking for it.
_PATTERN = f"^{re.escape(CHANGES.name)}$"


def group_of(ledger: str) -> str:
    """The consumer group of a ledger's appliers: what another ledger has committed says nothing."""
    return f"applier.{ledger}"


class ChangeConsumer:
    """Reads `ledger.changes` in a consumer group; every change at least once.

    Call `fetch` again and again, also while nothing more can be taken: it also commits, and a
    consumer that stops asking is put out of its group. A broker that is away, or that has lost
    everything, is waited for and read from the beginning again.

    Args:
        settings: of the broker.
        ledger: id of the ledger whose changes these are; its appliers share a consumer group.
        max_open: changes of a partition that may be open before no more of it are fetched.
    """

    def __init__(self, settings: KafkaSettings, *, ledger: str, max_open: int = 2000) -> None:
        self._settings = settings
        self._group = group_of(ledger)
        self._max_open = max_open
        self._broker = Broker(settings, deadline=DEADLINE_SECONDS)
        self._consumer: Any = None
        self._progress: dict[int, Progress] = {}
        self._session = 0
        self._available = True
        self._fetched_at = 0.0
        self._trusted_at = 0.0
        self._commit_at = 0.0
        self._check_at = 0.0
        self._unsettled_since: float | None = None

    async def __aenter__(self) -> Self:
        self._fetched_at = self._now()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._commit()
        await self._leave()
        await self._broker.close()

    def assigned(self) -> set[int]:
        """The partitions that this consumer has now; changes of others are another's."""
        return set(self._progress)

    def owns(self, generation: UUID) -> bool:
        """Whether changes of a generation come to this consumer now."""
        return partition_of(str(generation).encode(), CHANGES.partitions) in self._progress

    async def fetch(self) -> list[Change]:
        """The next changes, in order per stream; empty after a short while without any.

        Raises:
            PartitionMismatch: the topic has another number of partitions.
        """
        self._notice_pause()
        try:
            with translated("deliver changes"):
                changes = await self._fetch()
        except Unavailable as exc:
            if self._available:
                _LOG.warning("unavailable", extra={"group": self._group, "cause": str(exc)})
            self._available = False
            await self._leave()
            await asyncio.sleep(RETRY_SECONDS)
            return []
        return changes

    def complete(self, change: Change) -> None:
        """A change is done: after a restart it need not come again.

        Every change that was fetched must be completed, also one that came before.
        """
        if change.delivery is None:
            return
        progress = self._progress.get(change.delivery.partition)
        # After a rebalance or a loss, the same offset may be another change.
        if progress is not None and progress.session == change.delivery.session:
            progress.complete(change.delivery.offset)

    async def _fetch(self) -> list[Change]:
        if self._consumer is None:
            await self._join()
        changes = self._deliver(await self._poll())
        await self._require_settled()
        self._press_back()
        if self._now() >= self._commit_at:
            await self._commit()
        if not changes and self._now() >= self._check_at:
            await self._check_broker()
        return changes

    async def _join(self) -> None:
        """Join the group, if the topic is there; it must not be created by reading it."""
        if not await self._broker.end_offsets([CHANGES]):
            raise Unavailable(f"topic {CHANGES.name} does not exist yet")
        self._consumer = AIOKafkaConsumer(
            **self._settings.client_arguments(),
            group_id=self._group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            heartbeat_interval_ms=int(HEARTBEAT_SECONDS * 1000),
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            fetch_max_wait_ms=self._settings.fetch_max_wait_ms,
            # An applier that takes no more keeps its partitions: its leases say whether it lives.
            max_poll_interval_ms=MAX_POLL_MILLISECONDS,
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._consumer.start()
        # After the start, which would otherwise wait until the group has settled: that takes
        # longer than a session when a member was killed.
        self._consumer.subscribe(pattern=_PATTERN, listener=_Rebalances(self))
        self._check_at = self._now() + DEADLINE_SECONDS
        self._unsettled_since = self._now()

    async def _require_settled(self) -> None:
        """Begin anew with a group that does not come to rest, where groups do not by themselves.

        Its offsets go with it: changes that were applied come again, which does no harm.

        Raises:
            Unavailable: it has not come to rest for too long.
        """
        since = self._unsettled_since
        if self._settings.groups_settle or since is None or self._now() - since < SETTLE_SECONDS:
            return
        await self._leave()
        await self._broker.forget_group(self._group)
        raise Unavailable(f"the consumer group has not settled for {SETTLE_SECONDS:g} s")

    async def _poll(self) -> dict[TopicPartition, list[Any]]:
        try:
            # While the group rebalances, the client waits without a limit of its own.
            async with asyncio.timeout(POLL_SECONDS * 2):
                records: dict[TopicPartition, list[Any]] = await self._consumer.getmany(
                    timeout_ms=int(POLL_SECONDS * 1000), max_records=FETCHED_AT_ONCE
                )
        except TimeoutError:
            return {}
        return records

    def _deliver(self, records: dict[TopicPartition, list[Any]]) -> list[Change]:
        changes = []
        for partition, messages in records.items():
            progress = self._progress.get(partition.partition)
            if progress is None:
                continue
            for message in messages:
                progress.deliver(message.offset)
                delivery = Delivery(partition.partition, message.offset, progress.session)
                try:
                    changes.append(
                        decode(Message(message.key, message.value, message.headers), delivery)
                    )
                except Rejected:
                    _LOG.warning("foreign_message", extra=delivery._asdict())
                    progress.complete(message.offset)
        return changes

    def _press_back(self) -> None:
        paused = {partition.partition for partition in self._consumer.paused()}
        for number, progress in self._progress.items():
            if number not in paused and len(progress) > self._max_open:
                self._consumer.pause(_partition(number))
            elif number in paused and len(progress) <= self._max_open // 2:
                self._consumer.resume(_partition(number))

    async def _commit(self) -> None:
        """Keep how far changes are done. What is not kept comes again, which does no harm."""
        self._commit_at = max(self._commit_at, self._now() + COMMIT_SECONDS)
        due = {
            _partition(number): offset
            for number, progress in self._progress.items()
            if (offset := progress.committable) is not None
        }
        if not due or self._consumer is None or self._now() < self._trusted_at:
            return
        try:
            with translated("commit offsets"):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._consumer.commit(due)
        except (Unavailable, IllegalStateError) as exc:
            _LOG.info("offsets_not_committed", extra={"group": self._group, "cause": str(exc)})
            return
        for partition, offset in due.items():
            if partition.partition in self._progress:
                self._progress[partition.partition].committed(offset)

    def _notice_pause(self) -> None:
        """After a pause longer than a session, commit nothing until a heartbeat was answered.

        Others may have these partitions by now. Committing our old offsets would take theirs back.
        """
        now = self._now()
        if now - self._fetched_at > SESSION_SECONDS:
            self._trusted_at = now + 2 * HEARTBEAT_SECONDS
        self._fetched_at = now

    async def _check_broker(self) -> None:
        """Notice that the broker has lost what we stand behind.

        Raises:
            Unavailable: the topic is gone, or the client does not see the new one.
        """
        ends = await self._broker.end_offsets([CHANGES])
        if not ends or CHANGES.name not in self._consumer.subscription():
            raise Unavailable(f"topic {CHANGES.name} is gone")
        async with asyncio.timeout(DEADLINE_SECONDS):
            for number in self.assigned():
                if await self._consumer.position(_partition(number)) > ends[CHANGES.name, number]:
                    _LOG.warning("broker_lost_messages", extra={"partition": number})
                    self._begin(number)
                    await self._consumer.seek_to_beginning(_partition(number))
        if not self._available:
            _LOG.info("available_again", extra={"group": self._group})
        self._available = True
        self._check_at = self._now() + CHECK_SECONDS

    async def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._progress.clear()
        if consumer is not None:
            await stop_consumer(consumer)
            self._progress.clear()

    async def revoked(self) -> None:
        """The group takes all partitions back; says what is done while they are still ours."""
        await self._commit()
        self._progress.clear()

    def unsettled(self) -> None:
        """The group is about to decide anew who has which partitions."""
        if self._unsettled_since is None:
            self._unsettled_since = self._now()

    def given(self, partitions: Collection[int]) -> None:
        """The group gives this consumer partitions."""
        self._unsettled_since = None
        self._progress.clear()
        for number in partitions:
            self._begin(number)
        _LOG.info("assigned", extra={"group": self._group, "partitions": sorted(partitions)})

    def _begin(self, number: int) -> None:
        self._session += 1
        self._progress[number] = Progress(self._session)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells the consumer what the group decides."""

    def __init__(self, consumer: ChangeConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._consumer.unsettled()
        if revoked:
            await self._consumer.revoked()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._consumer.given([partition.partition for partition in assigned])


def _partition(number: int) -> TopicPartition:
    return TopicPartition(CHANGES.name, number)
