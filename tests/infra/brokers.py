"""The broker of a test: the configured one, or one of its own.

Without configuration a test gets the embedded broker, new for each test. With
`MIGRATION_LEDGER_KAFKA_BOOTSTRAP` it gets that one, after the topics of earlier tests are deleted:
their names are fixed, so the tests of one broker run one after another. A test that kills, freezes
or wipes its broker never gets the configured one, but an Apache Kafka from Maven, if that is there.
"""

import os
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest

from adapters.bootstrap import kafka_settings
from adapters.kafka.settings import KafkaSettings
from adapters.settings import load_settings
from tests.infra.kafka.admin import delete_topics
from tests.infra.kafka.artifacts import fetched
from tests.infra.kafka.server import Kafka
from tests.infra.tansu import Tansu

KAFKA = "MIGRATION_LEDGER_KAFKA_"
BOOTSTRAP = f"{KAFKA}BOOTSTRAP"


class OwnBroker(Protocol):
    """A broker to be killed at will."""

    @property
    def settings(self) -> KafkaSettings:
        """How the product reaches it."""

    async def start(self) -> None:
        """Start it again."""

    def kill(self) -> None:
        """End it at once; Kafka keeps its data, the embedded broker does not."""

    def wipe(self) -> None:
        """End it at once, and its data with it."""

    def freeze(self) -> None:
        """Stop the process where it is."""

    def thaw(self) -> None:
        """Let a frozen process go on."""


def broker_environment() -> dict[str, str]:
    """The variables with which a program of ours uses the configured broker, if there is one."""
    if BOOTSTRAP not in os.environ:
        return {}
    kafka = {k: v for k, v in os.environ.items() if k.startswith(KAFKA)}
    return {**kafka, "MIGRATION_LEDGER_EMBED": "database,qdrant"}


def configured() -> KafkaSettings | None:
    """The broker that the environment names, with all that it says of it."""
    if BOOTSTRAP not in os.environ:
        return None
    return kafka_settings(load_settings(environment=broker_environment()), embedded=False)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to share one broker among the workers of a run."""
    if BOOTSTRAP in os.environ and config.getoption("numprocesses", default=None):
        raise pytest.UsageError(
            f"{BOOTSTRAP} names one broker, and the topics have fixed names: run `make test-kafka`,"
            " or pytest with -n 0"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs an Apache Kafka where the run has none."""
    if has_kafka():
        return
    left_out = [item for item in items if item.get_closest_marker("kafka")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def has_kafka() -> bool:
    """Whether a test that does what it likes with its broker gets an Apache Kafka."""
    return BOOTSTRAP in os.environ and fetched()


@pytest.fixture(scope="session")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka | None]:
    """An Apache Kafka, not yet started; None where tests use the embedded broker."""
    if not has_kafka():
        yield None
        return
    kafka = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        yield kafka
    finally:
        kafka.kill()


@pytest.fixture
async def own_broker(own_kafka: Kafka | None) -> AsyncIterator[OwnBroker]:
    """A broker without topics, to be killed at will."""
    if own_kafka is None:
        async with Tansu() as tansu:
            yield tansu
        return
    await own_kafka.start()
    await delete_topics(own_kafka.settings)
    yield own_kafka


@pytest.fixture
async def broker_settings() -> AsyncIterator[KafkaSettings]:
    """The configured broker, or else a new one; without topics."""
    settings = configured()
    if settings is not None:
        await delete_topics(settings)
        yield settings
        return
    async with Tansu() as tansu:
        yield tansu.settings
