"""What every place of objects must do. A test class that subclasses this gives `objects`."""

import pytest

from domain.model.bodies import address_of
from domain.model.errors import ObjectMissing
from domain.ports import SMALL_OBJECT, Objects

SMALL, LARGE = b"small", bytes(SMALL_OBJECT + 1)


class ObjectsContract:
    """The suite."""

    async def test_what_was_put_is_there_under_its_hash(self, objects: Objects) -> None:
        for content in (SMALL, LARGE):
            address = await objects.put(content)
            assert address == address_of(content)
            assert await objects.put(content) == address
            assert await objects.get(address) == content

    async def test_what_is_missing_is_said(self, objects: Objects) -> None:
        address, nowhere = await objects.put(SMALL), address_of(b"neither")
        assert await objects.missing([address, nowhere]) == {nowhere}
        with pytest.raises(ObjectMissing, match=nowhere):
            await objects.get(nowhere)

    async def test_what_is_deleted_is_gone_and_the_rest_is_there(self, objects: Objects) -> None:
        addresses = [await objects.put(content) for content in (SMALL, LARGE)]
        kept = await objects.put(b"kept")
        await objects.delete(addresses)
        assert await objects.missing([*addresses, kept]) == set(addresses)
        assert await objects.get(kept) == b"kept"

    async def test_deleting_again_changes_nothing(self, objects: Objects) -> None:
        address = await objects.put(SMALL)
        await objects.delete([address, address_of(b"never there")])
        await objects.delete([address])
        await objects.delete([])
        assert await objects.missing([address]) == {address}

    async def test_what_was_deleted_can_be_put_again(self, objects: Objects) -> None:
        address = await objects.put(LARGE)
        await objects.delete([address])
        assert await objects.put(LARGE) == address
        assert await objects.get(address) == LARGE
