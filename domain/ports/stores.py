"""Where points and rows of applications are."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from domain.model.points import PointBatch
from domain.model.recipes.recipe import CollectionDescription, SourceRow
from domain.model.schema import CollectionSchema
from domain.model.timeline import Witness


@dataclass(frozen=True)
class Hit:
    """A search result.

    Attributes:
        key: id key of the point.
        score: as the store computes it; higher is nearer, whatever the distance.
        payload: canonical JSON.
        collection: physical collection that it came from.
    """

    key: bytes
    score: float
    payload: bytes
    collection: str


LEASE_ENDS: ContextVar[Callable[[], float] | None] = ContextVar("lease_ends", default=None)
"""When the lease of the caller ends, by the loop's clock; stores send nothing after it.

A process that was paused wakes up anywhere in its code. Time-outs are noticed between two
callbacks, which is too late where the next thing is to send what was made before the pause.
"""


class VectorStore(Protocol):
    """A store of collections. Names may be aliases where points are read.

    Raises everywhere:
        Unavailable: no answer within the deadline, after bounded retries.
        Throttled: it takes no more for now. Points are written in the order given and deleted in
            key order; the error says how many are done.
        DiskFull: it has no room.
        Conflict: the lease of `LEASE_ENDS` is over.
        NotFound: the collection does not exist.
        Rejected: the store refuses the content.
    """

    async def version(self) -> str:
        """The server's version."""

    async def collections(self) -> list[str]:
        """Physical names."""

    async def aliases(self) -> dict[str, str]:
        """Alias to physical name."""

    async def describe(self, name: str) -> CollectionDescription | None:
        """A collection by its physical name, or None.

        Raises:
            Rejected: it has a setting that we would lose.
        """

    async def create(
        self, name: str, schema: CollectionSchema, *, witness: Witness | None = None
    ) -> None:
        """Make a collection with its indexes; again changes nothing.

        Args:
            name: physical name.
            schema: of the collection.
            witness: what a new collection says of the ledger from its first moment.

        Raises:
            Rejected: a collection of that name exists with other vectors.
        """

    async def drop(self, name: str) -> None:
        """Drop a collection; again changes nothing."""

    async def read_witness(self, name: str) -> Witness | None:
        """What a collection says of the ledger; None if it says nothing or does not exist."""

    async def write_witness(self, name: str, witness: Witness | None) -> None:
        """Let a collection say how far the ledger is in it, or nothing any more."""

    async def upsert(self, name: str, points: PointBatch) -> None:
        """Write full images of points; returns when they are visible and durable."""

    async def delete(self, name: str, keys: Sequence[bytes]) -> None:
        """Delete points; those that do not exist are ignored."""

    def scan(
        self, name: str, *, after: bytes = b"", page: int = 500, limit: int | None = None
    ) -> AsyncIterator[PointBatch]:
        """All points with keys after `after`, or the first `limit`, in key order, in pages."""

    async def retrieve(self, name: str, keys: Sequence[bytes]) -> PointBatch:
        """These points, in key order; those that do not exist are left out."""

    async def count(self, name: str) -> int:
        """Exact number of points."""

    async def point_alias(self, alias: str, name: str) -> None:
        """Let an alias point to a collection, in one atomic action, whether it existed or not.

        Raises:
            Rejected: a collection has the name of the alias.
        """

    async def remove_alias(self, alias: str) -> None:
        """Remove an alias; again changes nothing."""

    async def search(
        self,
        name: str,
        vector: Sequence[float],
        *,
        using: str = "",
        limit: int = 10,
        match: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """The nearest points, optionally only those whose payload has these keyword values."""


class SourceTable(Protocol):
    """The `sources` table of an application.

    Raises everywhere:
        NotFound: the table, or a column that the migration needs, does not exist.
    """

    async def rows(self) -> list[SourceRow]:
        """All rows in id order."""

    async def replace_names(
        self, changes: Mapping[str, tuple[str | None, str | None]]
    ) -> dict[str, str | None]:
        """Set `collection_names` of rows in one transaction: row id to (expected, new) raw text.

        A row that holds `new` already counts as changed. Returns the rows left alone because they
        hold neither, with what they hold; a deleted row is left alone too (None).
        """

    async def digest(self) -> str:
        """SHA-256 over all rows and columns of the table, in id order."""


class Stores(Protocol):
    """Vector stores and tables by the names of their connections."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the vector stores."""

    def store(self, name: str) -> VectorStore:
        """The vector store with this name.

        Raises:
            NotFound: no such connection is configured.
        """

    def table(self, connection: str, table: str) -> SourceTable:
        """The table of this connection.

        Raises:
            NotFound: no such connection is configured.
        """
