"""Which processes are alive, which one leads, and where each goes on."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.model.recorded import Cursor
from domain.ports.views import Document


@dataclass(frozen=True)
class Leadership:
    """A role that one process at a time holds.

    Attributes:
        name: of the role.
        epoch: grows with every new leader.
    """

    name: str
    epoch: int


class Leaders(Protocol):
    """Elects one process for a role that must not run twice."""

    def lead(self, name: str, holder: str) -> AbstractAsyncContextManager[Leadership]:
        """Wait until this process leads; leadership ends with the block or its connection."""

    async def confirm(self, leadership: Leadership) -> None:
        """Check that nobody else leads meanwhile.

        Raises:
            Conflict: the latest leadership is another one.
            Halted: work is halted.
        """


class Cursors(Protocol):
    """Durable cursors of readers of the ledger."""

    async def get(self, name: str) -> Cursor:
        """Where a reader is; the beginning if it never moved."""

    async def advance(self, name: str, cursor: Cursor, leadership: Leadership | None) -> None:
        """Move a cursor forward, or back to the beginning.

        Raises:
            Conflict: `leadership` is not the latest.
        """

    async def reset(self, name: str) -> None:
        """Move a cursor to the beginning, and end the leadership under which it was moved."""


@dataclass(frozen=True)
class WorkerBeat:
    """A sign of life.

    Attributes:
        worker: unique name of the process.
        role: relay, applier, flow, coordinator or projector.
        pid: of the process.
        host: where it runs.
        started: when.
        seconds_ago: seconds since the last sign, by the database's clock.
        detail: what it is at.
    """

    worker: str
    role: str
    pid: int
    host: str
    started: datetime
    seconds_ago: float
    detail: Document


class Workers(Protocol):
    """Who is alive."""

    async def beat(self, worker: str, role: str, detail: Document) -> None:
        """Say that a worker is alive."""

    async def leave(self, worker: str) -> None:
        """Say that a worker stopped as it should."""

    async def alive(self, within: float = 15.0) -> list[WorkerBeat]:
        """Workers that gave a sign within so many seconds."""
