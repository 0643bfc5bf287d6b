"""The places of objects keep the contract."""

from pathlib import Path

import pytest

from adapters.objects.store import SizedObjects, StoredObjects
from adapters.postgres.connection import Database
from adapters.postgres.objects import PostgresObjects
from domain.ports import Objects
from tests.contract.objects import LARGE, SMALL, ObjectsContract


class TestDatabase(ObjectsContract):
    @pytest.fixture
    def objects(self, database: Database) -> Objects:
        return PostgresObjects(database)


class TestFolder(ObjectsContract):
    @pytest.fixture
    def objects(self, tmp_path: Path) -> Objects:
        return StoredObjects(tmp_path.as_uri())


class TestMemory(ObjectsContract):
    """What obstore does for buckets, without a folder's own ways."""

    @pytest.fixture
    def objects(self) -> Objects:
        return StoredObjects("memory:///")


class TestBySize(ObjectsContract):
    @pytest.fixture
    def objects(self, database: Database, tmp_path: Path) -> Objects:
        return SizedObjects(PostgresObjects(database), StoredObjects(tmp_path.as_uri()))


async def test_an_object_is_deleted_wherever_it_is(database: Database, tmp_path: Path) -> None:
    small, large = PostgresObjects(database), StoredObjects(tmp_path.as_uri())
    addresses = [await small.put(LARGE), await large.put(SMALL)]  # as a smaller limit left them
    await SizedObjects(small, large).delete(addresses)
    assert await small.missing(addresses) == set(addresses)
    assert await large.missing(addresses) == set(addresses)
