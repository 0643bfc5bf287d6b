"""Fixtures that start real servers, once for each worker of a test run."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import hypothesis
import pytest
from anyio.from_thread import start_blocking_portal

from adapters.embedded import postgres
from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.connection import Database, open_database
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.schema import upgrade
from tests.databases import execute, new_database, new_ledger_database, with_database

pytest_plugins = ["tests.infra.brokers"]

_TEMPLATE = "ledger_template"

# A timing is never an assertion, so no example has a deadline.
hypothesis.settings.register_profile("small", deadline=None, max_examples=50)
hypothesis.settings.register_profile("large", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "small"))


def pytest_configure() -> None:
    """Let Ctrl-C end programs that tests start, also where a script runs us in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest begins first: at the end no worker runs it while others have nothing.

    Those that may take equally long stay in the order that they were shuffled into.
    """
    items.sort(key=_allowed_seconds, reverse=True)


def _allowed_seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return 0.0 if mark is None else float(mark.args[0])


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running PostgreSQL; its supervisor lives in a thread with a loop of its own."""
    folder = tmp_path_factory.mktemp("postgres")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_running_postgres(folder)) as url,
    ):
        yield url


@pytest.fixture(scope="session")
def ledger_template(postgres_url: str) -> str:
    """The name of an upgraded database that new ones are copied from."""

    async def prepare() -> None:
        await execute(postgres_url, f'CREATE DATABASE "{_TEMPLATE}"')
        async with open_database(with_database(postgres_url, _TEMPLATE)) as database:
            await upgrade(database)

    with start_blocking_portal() as portal:
        portal.call(prepare)
    return _TEMPLATE


@pytest.fixture
async def empty_database(postgres_url: str) -> AsyncIterator[str]:
    """The URL of a new database without tables."""
    async with new_database(postgres_url, "template1") as url:
        yield url


@pytest.fixture
async def ledger_database(postgres_url: str, ledger_template: str) -> AsyncIterator[str]:
    """The URL of a new database with an empty ledger."""
    async with new_ledger_database(postgres_url, ledger_template) as url:
        yield url


@pytest.fixture
async def other_ledger_database(postgres_url: str, ledger_template: str) -> AsyncIterator[str]:
    """The URL of another new database with an empty ledger."""
    async with new_database(postgres_url, ledger_template) as url:
        yield url


@pytest.fixture
async def database(ledger_database: str) -> AsyncIterator[Database]:
    """A connected database with an empty ledger."""
    async with open_database(ledger_database) as database:
        yield database


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    """An empty ledger."""
    async with PostgresLedger(database) as ledger:
        yield ledger


@asynccontextmanager
async def _running_postgres(folder: Path) -> AsyncIterator[str]:
    async with Supervisor(folder) as supervisor:
        with pytest.MonkeyPatch.context() as patch:
            # Nobody pulls the plug of the machine, and every test makes and drops a database.
            patch.setitem(postgres._SETTINGS, "fsync", "off")
            endpoints = await start_servers(supervisor, {postgres.NAME})
        assert endpoints.database_url is not None
        yield endpoints.database_url
