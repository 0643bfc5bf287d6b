"""The bytes that events name, and how those go that nothing names any more."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Protocol

from domain.model.aggregate import Context

SMALL_OBJECT = 64 * 2**10
"""Objects up to this many bytes are rows in the ledger's database rather than files."""


class Objects(Protocol):
    """Content-addressed, durable bytes."""

    async def put(self, content: bytes) -> str:
        """Keep bytes and return their address; when it returns, they survive a power cut."""

    async def get(self, address: str) -> bytes:
        """The bytes of an address, checked.

        Raises:
            Corrupt: they are missing, or not what the address says.
        """

    async def missing(self, addresses: Sequence[str]) -> set[str]:
        """Those of these addresses under which nothing is."""

    async def delete(self, addresses: Sequence[str]) -> None:
        """Delete what is under these addresses, durably; nothing there is no error."""


class Garbage(Protocol):
    """Bodies to which nothing refers that anybody can go back to.

    They go in three steps, so that nobody can name one whose object is gone: condemned, which
    anything that refers to one ends; given up, from when on it may not be named; deleted.
    """

    async def condemn(self) -> int:
        """Condemn the bodies that nothing refers to any more; how many."""

    async def give_up(self, grace: timedelta, context: Context) -> int:
        """Give up the next bodies that were condemned for so long, as an event; how many.

        Those to which something refers by now stay. So do those that a change needs which a store
        has not applied yet; what no change ever named waits for no store.

        Raises:
            Halted: work is halted.
        """

    async def dispose(self, delete: Callable[[Sequence[str]], Awaitable[None]]) -> int:
        """Have the objects of the next bodies deleted that were given up; how many.

        Nobody writes an object of the same address meanwhile. Those that were written again since
        they were given up stay.
        """


class Traces(Protocol):
    """What servers keep in their files of points and objects that were deleted."""

    async def remove(self, collections: Collection[tuple[str, str]]) -> list[str]:
        """Let nothing of them be left, as far as that can be asked for.

        Args:
            collections: names of stores and of physical collections that points were deleted from.

        Returns what somebody has to do by hand, in a sentence each.
        """
