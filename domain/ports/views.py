"""What readers see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from domain.model.recorded import Cursor

Document = dict[str, Any]


@dataclass(frozen=True)
class Build:
    """One build of a read model.

    Attributes:
        name: of the projection.
        number: of the build.
        live: whether readers see it.
        cursor: how far it has come.
    """

    name: str
    number: int
    live: bool
    cursor: Cursor


class Views(Protocol):
    """Read models: documents by key, in builds of which one is live."""

    async def open(self, name: str, shape: int) -> Build:
        """The build to go on with: the live one if it has this shape, else a new one beside it."""

    async def rebuild(self, name: str, shape: int) -> Build:
        """A new, empty build beside the live one."""

    async def load(self, build: Build, keys: Sequence[str]) -> dict[str, Document]:
        """The documents of a build that exist under these keys."""

    async def store(
        self, build: Build, documents: Mapping[str, Document | None], cursor: Cursor
    ) -> Build:
        """Write documents (None deletes) and the cursor in one transaction.

        Raises:
            Conflict: the build's cursor is not where `build` says: another projector moved it.
        """

    async def publish(self, build: Build) -> Build:
        """Let readers see this build instead of the live one, which is deleted, in one step."""

    async def get(self, name: str, key: str) -> Document | None:
        """A document of the live build."""

    async def find(
        self, name: str, *, after: str = "", limit: int = 100, match: Document | None = None
    ) -> list[tuple[str, Document]]:
        """Documents of the live build in key order, optionally those that contain `match`."""

    async def cursor(self, name: str) -> Cursor:
        """How far the live build has come; the beginning if there is none."""

    async def builds(self) -> list[Build]:
        """All builds of all read models."""

    async def retire(self, build: Build) -> None:
        """Let no projector go on with a build; if it is live, readers have it until another is."""
