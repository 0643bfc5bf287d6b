"""Where the ledger is published."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from domain.model.recorded import Recorded
from domain.model.timeline import Standing, Witness

EVENTS_TOPIC = "ledger.events"
"""Where every event is published, for everyone."""


CHANGES_TOPIC = "ledger.changes"
"""Where the events of generations are published too, for appliers."""


class EventPublisher(Protocol):
    """Publishes the ledger. What it publishes can be lost, and published again."""

    async def ensure_topics(self) -> None:
        """Create the topics that are missing.

        Raises:
            Rejected: a topic is not as it must be.
        """

    async def publish(self, batch: Sequence[Recorded]) -> None:
        """Publish events in this order per stream; returns when all are acknowledged.

        When it raises, any of them may have been published; publishing them again does no harm.
        """

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        """How many messages were ever in each (topic, partition), of the topics that exist."""

    def begin(self, standing: Standing) -> None:
        """Say with every message from here on of which ledger and timeline it is."""

    async def witnesses(self, ends: Mapping[tuple[str, int], int]) -> list[Witness]:
        """What the last message of each partition of the events topic says.

        Partitions whose end this publisher knows since `begin` are left out.

        Args:
            ends: as `end_offsets` answered.
        """
