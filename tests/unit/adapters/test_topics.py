"""A program that only reads the ledger knows every event."""

import subprocess
import sys

from eventsourcing.utils import get_topic

from tests.unit.domain.test_events import events

RESOLVES = """
import sys
from eventsourcing.utils import resolve_topic
import adapters.postgres.mapper
for topic in sys.argv[1:]:
    resolve_topic(topic)
"""


def test_the_mapper_alone_knows_every_topic() -> None:
    topics = [get_topic(event) for event in events()]
    assert len(topics) > 20
    subprocess.run([sys.executable, "-c", RESOLVES, *topics], check=True)
