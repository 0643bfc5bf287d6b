"""The relay between a real PostgreSQL and a real broker."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import pytest

from adapters.kafka.consumer import ChangeConsumer
from adapters.kafka.publisher import Publisher
from adapters.kafka.topics import CHANGES, EVENTS, partition_of
from adapters.postgres.connection import open_database
from adapters.postgres.cursors import PostgresCursors
from adapters.postgres.leaders import PostgresLeaders
from adapters.postgres.ledger import PostgresLedger
from domain.model.errors import Halted, Unavailable
from domain.model.recorded import Cursor, Recorded
from domain.model.timeline import Halt
from domain.ports import EventPublisher
from domain.use_cases import relay as use_case
from domain.use_cases.relay import CURSOR, DRAIN_SECONDS, relay
from tests.contract.builders import command, generation
from tests.contract.kafka_events import LEDGER, event_id, history, ids, messages
from tests.infra.brokers import OwnBroker
from tests.infra.kafka.admin import delete_topics

pytestmark = pytest.mark.broker


@dataclasses.dataclass
class Ledgers:
    """What the relay reads, on one database."""

    ledger: PostgresLedger
    cursors: PostgresCursors
    leaders: PostgresLeaders

    async def grow(self, count: int, name: str = "docs") -> None:
        """Record so many events of four generations."""
        made = [generation(f"{name}{number}__g1") for number in range(4)]
        for number in range(count - len(made)):
            made[number % len(made)].point_alias(f"alias{number}", None)
        await self.ledger.append(command(f"grow {name}", *made))

    async def everything(self) -> list[Recorded]:
        return await self.ledger.read(0, 100_000)

    async def published(self, position: int) -> None:
        """Wait until the relay's cursor is there."""
        async with asyncio.timeout(60):
            while (await self.cursors.get(CURSOR)).position < position:
                pass

    async def halted(self) -> Halt:
        """Wait until all work is halted."""
        async with asyncio.timeout(60):
            while (halt := (await self.ledger.standing()).halt) is None:
                pass
        return halt

    @asynccontextmanager
    async def relaying(
        self, publisher: EventPublisher, holder: str
    ) -> AsyncIterator[asyncio.Event]:
        """A relay runs inside the block; setting the event stops it."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(
                relay(self.ledger, self.cursors, self.leaders, publisher, holder, stop)
            )
            yield stop
            stop.set()


@pytest.fixture
async def ledgers(ledger_database: str) -> AsyncIterator[Ledgers]:
    async with (
        open_database(ledger_database) as database,
        PostgresLedger(database) as ledger,
    ):
        yield Ledgers(ledger, PostgresCursors(database), PostgresLeaders(database))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use_case, "BATCH_SIZE", 50)


class Faulty:
    """A publisher with something that happens instead of, or around, each publish."""

    def __init__(
        self,
        publisher: Publisher,
        publish: Callable[[Publisher, Sequence[Recorded]], Awaitable[None]],
    ) -> None:
        self._publisher = publisher
        self._publish = publish
        self.begin = publisher.begin
        self.witnesses = publisher.witnesses
        self.ensure_topics = publisher.ensure_topics
        self.end_offsets = publisher.end_offsets

    async def publish(self, batch: Sequence[Recorded]) -> None:
        await self._publish(self._publisher, batch)


async def test_every_event_is_published_and_the_cursor_follows(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    settings = own_broker.settings
    await ledgers.grow(300)
    async with Publisher(settings) as publisher, ledgers.relaying(publisher, "a"):
        await ledgers.published(300)
        await ledgers.grow(5, "later")
        await ledgers.published(305)
    events = await ledgers.everything()
    expected = sorted(event_id(event) for event in events)
    assert sorted(ids(await messages(settings, EVENTS))) == expected
    assert sorted(ids(await messages(settings, CHANGES))) == expected
    assert await ledgers.cursors.get(CURSOR) == Cursor(305, events[-1].hash)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("end", ["kill", "wipe"])
async def test_a_broker_killed_while_publishing_gets_everything(
    ledgers: Ledgers, own_broker: OwnBroker, end: str
) -> None:
    settings = own_broker.settings
    await ledgers.grow(400)
    killed = asyncio.Event()

    async def kill_once(publisher: Publisher, batch: Sequence[Recorded]) -> None:
        if batch[0].position > 200 and not killed.is_set():
            getattr(own_broker, end)()
            killed.set()
        await publisher.publish(batch)

    async with (
        Publisher(settings) as publisher,
        ChangeConsumer(settings, ledger=LEDGER) as consumer,
        ledgers.relaying(Faulty(publisher, kill_once), "a"),
        asyncio.timeout(60),
    ):
        seen: set[tuple[int, UUID, int]] = set()
        while not killed.is_set():
            seen |= await _fetched(consumer)
        await own_broker.start()
        while len(seen) < 400:
            seen |= await _fetched(consumer)
        await ledgers.published(400)
    events = await ledgers.everything()
    assert seen == {(event.position, event.stream, event.version) for event in events}
    assert set(ids(await messages(settings, EVENTS))) == set(map(event_id, events))


async def test_an_idle_relay_notices_a_broker_that_forgot_everything(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    settings = own_broker.settings
    await ledgers.grow(100)
    async with Publisher(settings) as publisher, ledgers.relaying(publisher, "a"):
        await ledgers.published(100)
        before = await messages(settings, EVENTS)
        own_broker.wipe()
        await own_broker.start()
        async with asyncio.timeout(30):
            while len(await messages(settings, EVENTS)) < 100:
                pass
            await ledgers.published(100)
        after = await messages(settings, EVENTS)
    assert sorted(ids(after)) == sorted(ids(before))


class Looking(Publisher):
    """A publisher that tells when the relay looks at what the broker has."""

    _looks = asyncio.Semaphore(0)

    async def looked_at(self, times: int = 4) -> None:
        """Wait until the relay has looked so often from now on."""
        self._looks = asyncio.Semaphore(0)
        for _ in range(times):
            await self._looks.acquire()

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        """Say so, and look."""
        self._looks.release()
        return await super().end_offsets()


async def test_an_idle_relay_publishes_nothing_again(
    ledgers: Ledgers, own_broker: OwnBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it looks at the broker, and whoever published before."""
    monkeypatch.setattr(use_case, "CHECK_SECONDS", 0.01)
    settings = own_broker.settings
    await ledgers.grow(100)
    async with asyncio.timeout(60):
        async with Looking(settings) as publisher, ledgers.relaying(publisher, "a"):
            await ledgers.published(100)
            await publisher.looked_at()
            await ledgers.grow(5, "later")
            await ledgers.published(105)
            await publisher.looked_at()
        async with Looking(settings) as publisher, ledgers.relaying(publisher, "b"):
            await publisher.looked_at()
            await ledgers.grow(5, "at last")
            await ledgers.published(110)
            await publisher.looked_at()
    events = await ledgers.everything()
    assert sorted(ids(await messages(settings, EVENTS))) == sorted(map(event_id, events))


@pytest.mark.parametrize("times", [1, 3])
async def test_a_broker_that_came_back_older_gets_what_it_lacks(
    ledgers: Ledgers, own_broker: OwnBroker, times: int
) -> None:
    """It may have more messages than there are events: they had been published several times."""
    settings = own_broker.settings
    await ledgers.grow(100)
    async with Publisher(settings) as publisher, ledgers.relaying(publisher, "a"):
        await ledgers.published(100)
    own_broker.wipe()
    await own_broker.start()
    events = await ledgers.everything()
    async with Publisher(settings) as publisher:
        publisher.begin(await ledgers.ledger.standing())
        await publisher.ensure_topics()
        for _ in range(times):
            await publisher.publish(events[:40])
    async with Publisher(settings) as publisher, ledgers.relaying(publisher, "b"):
        async with asyncio.timeout(30):
            while set(ids(await messages(settings, EVENTS))) != set(map(event_id, events)):
                pass


async def test_a_lost_topic_of_changes_is_filled_again(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    settings = own_broker.settings
    await ledgers.grow(100)
    async with Publisher(settings) as publisher, ledgers.relaying(publisher, "a"):
        await ledgers.published(100)
    await delete_topics(settings, [CHANGES])
    async with Publisher(settings) as publisher, ledgers.relaying(publisher, "b"):
        async with asyncio.timeout(30):
            while len(await messages(settings, CHANGES)) < 100:
                pass


@pytest.mark.usefixtures("small_batches")
async def test_the_cursor_is_never_ahead_of_what_was_acknowledged(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    settings = own_broker.settings
    await ledgers.grow(200)
    acknowledged, attempts, ahead = 0, 0, []

    async def fail_in_the_middle(publisher: Publisher, batch: Sequence[Recorded]) -> None:
        nonlocal acknowledged, attempts
        attempts += 1
        ahead.append((await ledgers.cursors.get(CURSOR)).position - acknowledged)
        if attempts % 2:
            await publisher.publish(batch[: len(batch) // 2])
            raise Unavailable("the broker went away in the middle")
        await publisher.publish(batch)
        acknowledged = batch[-1].position

    async with (
        Publisher(settings) as publisher,
        ledgers.relaying(Faulty(publisher, fail_in_the_middle), "a"),
    ):
        await ledgers.published(200)
    assert attempts == 8
    assert ahead == [0] * 8
    events = await ledgers.everything()
    assert set(ids(await messages(settings, EVENTS))) == set(map(event_id, events))


@pytest.mark.usefixtures("small_batches")
async def test_the_next_batch_is_read_while_one_is_published(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    await ledgers.grow(200)
    reading: set[int] = set()
    changed = asyncio.Event()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(ledgers.ledger, name)

        async def read(self, after: int, limit: int) -> list[Recorded]:
            reading.add(after)
            changed.set()
            return await ledgers.ledger.read(after, limit)

    async def after_the_next(publisher: Publisher, batch: Sequence[Recorded]) -> None:
        while batch[-1].position not in reading:
            changed.clear()
            await changed.wait()
        await publisher.publish(batch)

    watched = dataclasses.replace(ledgers, ledger=cast("PostgresLedger", Watched()))
    async with (
        Publisher(own_broker.settings) as publisher,
        watched.relaying(Faulty(publisher, after_the_next), "a"),
    ):
        await ledgers.published(200)
    events = await ledgers.everything()
    assert sorted(ids(await messages(own_broker.settings, EVENTS))) == sorted(map(event_id, events))


async def test_of_two_relays_one_publishes_and_the_other_follows(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    settings = own_broker.settings
    published: dict[str, int] = {"a": 0, "b": 0}

    def counting(publisher: Publisher, name: str) -> Faulty:
        async def publish(publisher: Publisher, batch: Sequence[Recorded]) -> None:
            published[name] += len(batch)
            await publisher.publish(batch)

        return Faulty(publisher, publish)

    await ledgers.grow(100)
    async with (
        Publisher(settings) as first,
        Publisher(settings) as second,
        ledgers.relaying(counting(first, "a"), "a") as stop_first,
        ledgers.relaying(counting(second, "b"), "b") as stop_second,
    ):
        await ledgers.published(100)
        assert sorted(published.values()) == [0, 100]
        (stop_first if published["a"] else stop_second).set()
        await ledgers.grow(10, "later")
        await ledgers.published(110)
    assert sum(published.values()) == 110
    assert len(await messages(settings, EVENTS)) == 110


async def test_a_cursor_of_another_history_stops_the_work(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    settings = own_broker.settings
    await ledgers.grow(10)
    await ledgers.cursors.advance(CURSOR, Cursor(5, b"\x01" * 32), None)
    async with Publisher(settings) as publisher:
        async with ledgers.relaying(publisher, "a"):
            halt = await ledgers.halted()
            assert [finding.where for finding in halt.findings] == ["cursor relay"]
        assert await publisher.end_offsets() == {}


async def published_by(
    ledgers: Ledgers, publisher: Publisher, events: Sequence[Recorded], **standing: Any
) -> None:
    """Have events in the topics, as a relay of another history or ledger leaves them."""
    await publisher.ensure_topics()
    publisher.begin(dataclasses.replace(await ledgers.ledger.standing(), **standing))
    await publisher.publish(events)


async def test_a_topic_that_is_ahead_of_the_ledger_halts_all_work(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    await ledgers.grow(40)
    async with Publisher(own_broker.settings) as publisher:
        await published_by(ledgers, publisher, history(60, [UUID(int=7)]))
        async with ledgers.relaying(publisher, "a"):
            [finding] = (await ledgers.halted()).findings
    partition = partition_of(str(UUID(int=7)).encode(), EVENTS.partitions)
    assert finding.where == f"topic ledger.events[{partition}]"
    assert finding.says == f"{finding.where} is at position 60, and the ledger ends at 40"
    assert len(await messages(own_broker.settings, EVENTS)) == 60
    assert await ledgers.cursors.get(CURSOR) == Cursor()


async def test_a_topic_with_another_event_than_the_ledger_halts_all_work(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    await ledgers.grow(40)
    async with Publisher(own_broker.settings) as publisher:
        await published_by(ledgers, publisher, history(30, [UUID(int=7)]))
        async with ledgers.relaying(publisher, "a"):
            [finding] = (await ledgers.halted()).findings
    assert finding.position == 30
    assert "has another event at position 30 than the ledger" in finding.says


async def test_a_topic_of_a_later_timeline_halts_all_work(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    await ledgers.grow(40)
    async with Publisher(own_broker.settings) as publisher:
        await published_by(ledgers, publisher, await ledgers.everything(), timeline=2)
        async with ledgers.relaying(publisher, "a"):
            findings = (await ledgers.halted()).findings
    assert {finding.timeline for finding in findings} == {2}
    assert "is of timeline 2, and the ledger is on timeline 1" in findings[0].says


async def test_a_topic_that_turns_out_to_be_ahead_later_halts_all_work(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    await ledgers.grow(40)
    async with (
        Publisher(own_broker.settings) as publisher,
        Publisher(own_broker.settings) as other,
        ledgers.relaying(publisher, "a"),
    ):
        await ledgers.published(40)
        await published_by(ledgers, other, history(1, [UUID(int=7)], after=59))
        [finding] = (await ledgers.halted()).findings
        assert finding.position == 60
        with pytest.raises(Halted):
            await ledgers.grow(4, "later")


async def test_messages_of_a_timeline_that_is_over_are_no_reason_to_halt(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    await ledgers.grow(40)
    async with Publisher(own_broker.settings) as publisher:
        await published_by(ledgers, publisher, history(60, [UUID(int=7)]), timeline=0)
        async with ledgers.relaying(publisher, "a"):
            await ledgers.published(40)
    assert (await ledgers.ledger.standing()).halt is None


async def test_topics_of_another_ledger_are_left_alone(
    ledgers: Ledgers, own_broker: OwnBroker, caplog: pytest.LogCaptureFixture
) -> None:
    await ledgers.grow(40)
    async with Publisher(own_broker.settings) as publisher:
        await published_by(ledgers, publisher, history(60, [UUID(int=7)]), ledger="another")
        async with ledgers.relaying(publisher, "a"), asyncio.timeout(60):
            while not any("another ledger, another." in str(vars(r)) for r in caplog.records):
                await asyncio.sleep(0)
            assert len(await messages(own_broker.settings, EVENTS)) == 60
            assert (await ledgers.ledger.standing()).halt is None
            await delete_topics(own_broker.settings)
            await ledgers.published(40)


async def test_stopping_is_quick_while_the_broker_is_frozen(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    await ledgers.grow(10)
    async with Publisher(own_broker.settings) as publisher:
        await _stop_in_time(ledgers, publisher, own_broker.freeze)


async def test_stopping_is_quick_while_the_broker_is_gone(
    ledgers: Ledgers, own_broker: OwnBroker
) -> None:
    await ledgers.grow(10)
    async with Publisher(own_broker.settings) as publisher:
        await _stop_in_time(ledgers, publisher, own_broker.kill)


async def _stop_in_time(
    ledgers: Ledgers, publisher: Publisher, break_broker: Callable[[], None]
) -> None:
    publishing = asyncio.Event()

    async def tell(publisher: Publisher, batch: Sequence[Recorded]) -> None:
        if batch[0].position > 1:
            break_broker()
            publishing.set()
        await publisher.publish(batch)

    async with ledgers.relaying(Faulty(publisher, tell), "a") as stop:
        await ledgers.published(10)
        await ledgers.grow(10, "later")
        await publishing.wait()
        stop.set()
        # The batch at hand may drain, and the producer is closed in two attempts.
        deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS + 5
    assert asyncio.get_running_loop().time() < deadline


async def _fetched(consumer: ChangeConsumer) -> set[tuple[int, UUID, int]]:
    changes = await consumer.fetch()
    for change in changes:
        consumer.complete(change)
    return {(change.position, change.stream, change.version) for change in changes}
