"""Sets of addresses on disk, since those of a large ledger have no place in memory."""

import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

_MAKE = "CREATE TABLE addresses (address BLOB PRIMARY KEY) WITHOUT ROWID"
_ADD = "INSERT OR IGNORE INTO addresses VALUES (?)"
_HAS = "SELECT EXISTS (SELECT 1 FROM addresses WHERE address = ?)"
_ALL = "SELECT address FROM addresses ORDER BY address"


class Addresses:
    """A set of addresses in a temporary file, which is gone when the set is closed."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", check_same_thread=False)
        self._file.execute(_MAKE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __contains__(self, address: str) -> bool:
        return bool(self._file.execute(_HAS, (bytes.fromhex(address),)).fetchone()[0])

    def __iter__(self) -> Iterator[str]:
        for (address,) in self._file.execute(_ALL):
            yield address.hex()

    def add(self, addresses: Iterable[str]) -> None:
        """Take addresses; those that are there already stay once."""
        self._file.executemany(_ADD, ((bytes.fromhex(address),) for address in addresses))

    def new(self, addresses: Iterable[str]) -> list[str]:
        """Those of these addresses that are not there, each once and in order; takes them."""
        found = [address for address in dict.fromkeys(addresses) if address not in self]
        self.add(found)
        return found
