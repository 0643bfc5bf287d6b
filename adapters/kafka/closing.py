"""Stop clients of aiokafka for sure.

Their `stop()` can wait for ever for a broker that is gone
(https://github.com/aio-libs/aiokafka/issues/1101), and cancelling it leaves their tasks and
connections behind. What ends them is not public, so it is all in here.
"""

import asyncio
import contextlib
import logging
from typing import Any

from aiokafka.errors import KafkaError

CLOSE_SECONDS = 2.0

_LOG = logging.getLogger("migration_ledger.consumer")


async def abandon_producer(producer: Any) -> None:
    """Stop a producer without waiting for what is not acknowledged; those futures fail."""
    # Without connections, the requests that the sender waits for end now.
    await producer.client.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await producer._sender.close()  # noqa: SLF001
    accumulator = producer._message_accumulator  # noqa: SLF001
    queued = [batch for batches in accumulator._batches.values() for batch in batches]  # noqa: SLF001
    # Where a batch that waits to be sent again is looked for when it fails.
    accumulator._pending_batches.update(queued)  # noqa: SLF001
    accumulator.fail_all(KafkaError("given up"))
    for batch in queued:
        # Fails as well when a batch was not sent yet, and nobody waits for that any more.
        batch._drain_waiter.exception()  # noqa: SLF001
    await producer.stop()


async def stop_consumer(consumer: Any) -> None:
    """Stop a consumer, and cut its connections when it waits for a broker that is gone."""
    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(_stop(consumer))
        await asyncio.wait({stopped}, timeout=CLOSE_SECONDS)
        if not stopped.done():
            await consumer._client.close()  # noqa: SLF001
            await asyncio.wait({stopped}, timeout=CLOSE_SECONDS)
            stopped.cancel()


async def _stop(consumer: Any) -> None:
    """Stop a consumer also when the task that follows its group fails meanwhile."""
    try:
        await consumer.stop()
    except KafkaError as error:  # the client stopped there; the rest of it is still open
        _LOG.info("consumer_failed", extra={"cause": str(error)})
        coordinator = consumer._coordinator  # noqa: SLF001
        await coordinator._stop_heartbeat_task()  # noqa: SLF001
        await coordinator._stop_commit_offsets_refresh_task()  # noqa: SLF001
        await coordinator._maybe_leave_group()  # noqa: SLF001
        await consumer._fetcher.close()  # noqa: SLF001
        await consumer._client.close()  # noqa: SLF001
