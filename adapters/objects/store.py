"""Objects in object storage, through obstore: a folder, S3, GCS or Azure."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from domain.model.bodies import address_of
from domain.model.errors import Corrupt, DiskFull, ObjectMissing, Rejected, Unavailable
from domain.ports import SMALL_OBJECT, Objects
from domain.use_cases.concurrently import concurrently

LOOKS_AT_ONCE = 16
"""Objects that are looked for or deleted at a time."""


class StoredObjects:
    """Objects under ``ab/cdef…``, checked whenever they are read.

    A folder's files and folders are fsynced before `put` returns, since obstore's local store
    does not do that; cloud stores answer when an object is durable.
    """

    def __init__(self, url: str) -> None:
        """Open the storage at a URL: ``file:///…``, ``s3://…``, ``gs://…``, ``az://…``.

        Raises:
            Rejected: obstore knows no such storage.
        """
        self.url = url
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._store: ObjectStore = LocalStore(self._folder)
            else:
                self._store = from_url(url)
        except (BaseError, ValueError, OSError) as error:
            raise Rejected(f"object storage {url!r} cannot be opened: {error}") from error

    async def put(self, content: bytes) -> str:
        """Keep bytes durably; the same bytes again are written once."""
        address = address_of(content)
        path = _path(address)
        try:
            await obstore.put_async(self._store, path, content)
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder, self._folder / path)
        except (BaseError, OSError) as error:
            raise _unavailable(
                error, f"object storage {self.url} did not keep an object"
            ) from error
        return address

    async def get(self, address: str) -> bytes:
        """The bytes of an address.

        Raises:
            Corrupt: they are missing, or altered.
        """
        try:
            answer = await obstore.get_async(self._store, _path(address))
            content = bytes(await answer.bytes_async())
        except (NotFoundError, FileNotFoundError) as error:
            raise ObjectMissing(f"object {address} is missing from {self.url}") from error
        except (BaseError, OSError) as error:
            raise _unavailable(error, f"object storage {self.url} does not answer") from error
        if await asyncio.to_thread(address_of, content) != address:
            raise Corrupt(f"object {address} in {self.url} is not what it was when it was recorded")
        return content

    async def missing(self, addresses: Sequence[str]) -> set[str]:
        """Those of these addresses under which nothing is."""
        there = await concurrently((self._has(a) for a in addresses), LOOKS_AT_ONCE)
        return {address for address, found in zip(addresses, there, strict=True) if not found}

    async def delete(self, addresses: Sequence[str]) -> None:
        """Delete what is under these addresses; in a folder no power cut brings it back."""
        await concurrently((self._delete(address) for address in addresses), LOOKS_AT_ONCE)
        if self._folder is not None:
            await asyncio.to_thread(_sync_names, self._folder, addresses)

    async def _delete(self, address: str) -> None:
        try:
            await obstore.delete_async(self._store, _path(address))
        except (NotFoundError, FileNotFoundError):
            return
        except (BaseError, OSError) as error:
            raise _unavailable(
                error, f"object storage {self.url} did not delete an object"
            ) from error

    async def _has(self, address: str) -> bool:
        try:
            await obstore.head_async(self._store, _path(address))
        except (NotFoundError, FileNotFoundError):
            return False
        except (BaseError, OSError) as error:
            raise _unavailable(error, f"object storage {self.url} does not answer") from error
        return True


class SizedObjects:
    """Small objects in one place, large ones in another, under the same kind of address."""

    def __init__(self, small: Objects, large: Objects) -> None:
        self._small = small
        self._large = large

    async def put(self, content: bytes) -> str:
        """Keep bytes where their size belongs."""
        return await (self._small if len(content) <= SMALL_OBJECT else self._large).put(content)

    async def get(self, address: str) -> bytes:
        """The bytes of an address, wherever they are.

        Raises:
            Corrupt: neither place has them, or they are altered.
        """
        try:
            return await self._small.get(address)  # the database answers sooner than a bucket
        except ObjectMissing:
            return await self._large.get(address)

    async def missing(self, addresses: Sequence[str]) -> set[str]:
        """Those of these addresses that are in neither place."""
        return await self._large.missing(sorted(await self._small.missing(addresses)))

    async def delete(self, addresses: Sequence[str]) -> None:
        """Delete what is under these addresses in both places."""
        await self._small.delete(addresses)
        await self._large.delete(addresses)


def _unavailable(error: Exception, what: str) -> Unavailable:
    """What an error of obstore or of the file system is, without obstore's picture of its insides.

    obstore removes what it could not write to its end, and what is there under its address is
    whole; so after a full disk nothing is to be mended.
    """
    said = str(error).partition("\n")[0]
    if "No space left on device" in said or "quota exceeded" in said:
        return DiskFull(what, said)
    return Unavailable(f"{what}: {said}")


def _path(address: str) -> str:
    return f"{address[:2]}/{address[2:]}"


def _sync_names(root: Path, addresses: Sequence[str]) -> None:
    """Make what became of the names of these objects survive a power cut."""
    for folder in sorted({(root / _path(address)).parent for address in addresses}):
        if folder.exists():
            _sync_each(folder)


def _sync(root: Path, file: Path) -> None:
    """Make a renamed file and the folders above it survive a power cut."""
    _sync_each(file, file.parent, root)


def _sync_each(*paths: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
