"""The topics, and the partition of a key.

Everything derives from the ledger, so a topic can be deleted and is then seeded again; but it never
gets more partitions, because that would give keys other partitions and so lose their order.
"""

from dataclasses import dataclass
from functools import lru_cache

from aiokafka.partitioner import murmur2

from domain.model.errors import Rejected
from domain.ports import CHANGES_TOPIC, EVENTS_TOPIC


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it must be.

    Attributes:
        name: of the topic.
        partitions: number of partitions, for ever.
    """

    name: str
    partitions: int


EVENTS = TopicSpec(EVENTS_TOPIC, 12)
CHANGES = TopicSpec(CHANGES_TOPIC, 12)
TOPICS = (EVENTS, CHANGES)


class PartitionMismatch(Rejected):
    """A topic has another number of partitions than it must have.

    Attributes:
        topic: its name.
        expected: partitions that it must have.
        actual: partitions that it has.
    """

    def __init__(self, topic: str, expected: int, actual: int) -> None:
        super().__init__(
            f"topic {topic} has {actual} partitions and must have {expected}. Delete the topic: it "
            "is created again and filled from the ledger. Never add partitions to it: keys would "
            "go to other partitions and lose their order."
        )
        self.topic = topic
        self.expected = expected
        self.actual = actual


@lru_cache(maxsize=65536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2 as in Kafka's default partitioner.

    We compute it, so that it does not depend on a client's settings; and this way, so that other
    producers and stream processors agree.
    """
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
