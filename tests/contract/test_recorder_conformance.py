"""The library's own test cases of recorders, run against the ledger."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from unittest import TestCase

import pytest
from anyio.from_thread import start_blocking_portal
from eventsourcing.tests.persistence import (
    ApplicationRecorderTestCase,
    NonInterleavingNotificationIDsBaseCase,
)

from adapters.postgres.connection import open_database
from adapters.postgres.ledger import PostgresLedger
from tests.contract.recorder import LedgerRecorder


class OnTheLedger(TestCase):
    """Gives each test a recorder over a ledger of its own."""

    INITIAL_VERSION = 0
    """The library's cases count versions from here, and some of them from 0 whatever it is."""

    recorder: LedgerRecorder

    @pytest.fixture(autouse=True)
    def _recorder(self, ledger_database: str) -> Iterator[None]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[PostgresLedger]:
            async with open_database(ledger_database) as database, PostgresLedger(database) as one:
                yield one

        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            ledgers = [
                stack.enter_context(portal.wrap_async_context_manager(opened())) for _ in range(2)
            ]
            self.recorder = LedgerRecorder(portal, *ledgers)
            yield

    def create_recorder(self) -> LedgerRecorder:
        return self.recorder


class TestApplicationRecorder(OnTheLedger, ApplicationRecorderTestCase[LedgerRecorder]):
    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingNotificationIDs(OnTheLedger, NonInterleavingNotificationIDsBaseCase):
    pass
