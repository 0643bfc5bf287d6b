"""Objects in a folder, whatever its name."""

from pathlib import Path

import pytest

from adapters.objects.store import StoredObjects
from domain.model.bodies import address_of


@pytest.mark.parametrize("name", ["plain", "with a space", "größer", "50%20 more"])
async def test_a_folder_has_the_name_that_it_was_given(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    objects = StoredObjects(folder.as_uri())

    address = await objects.put(b"content")

    assert address == address_of(b"content")
    assert (folder / address[:2] / address[2:]).read_bytes() == b"content"
    assert {path.name for path in folder.parent.iterdir()} == {name}
