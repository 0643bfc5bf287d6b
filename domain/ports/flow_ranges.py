"""The ranges of flows, and who works on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True)
class RangeClaim:
    """A range of a flow, claimed by a worker.

    Attributes:
        flow: stream of the flow.
        number: of the range, from 0.
        request: what to do, as the flow's planner wrote it.
        attempt: 1 for the first worker.
    """

    flow: UUID
    number: int
    request: dict[str, Any]
    attempt: int


class FlowRanges(Protocol):
    """The queue of ranges that flow workers claim."""

    async def plan(
        self,
        flow: UUID,
        requests: Sequence[dict[str, Any]],
        *,
        source: UUID | None = None,
        until: datetime | None = None,
    ) -> None:
        """Put the first ranges of a flow into the queue; again changes nothing.

        Args:
            flow: its stream.
            requests: what each range reads: points after a key, or changes since a version.
            source: generation whose changes it reads, if it does.
            until: when such ranges are not claimed any more, before `wake`.
        """

    async def claim(self, holder: str, ttl: float) -> RangeClaim | None:
        """Claim a range that is free or whose lease ran out, or None.

        A range that reads changes is free as soon as there are any.

        Raises:
            Halted: work is halted.
        """

    async def renew(self, claim: RangeClaim, holder: str, ttl: float) -> bool:
        """Extend the lease; False if another worker has it now."""

    async def finish(self, claim: RangeClaim, following: dict[str, Any] | None = None) -> None:
        """Take a range out of the queue and put the one that follows it in, at once.

        One that reads changes is free after a pause, so that it finds several.
        """

    async def put_back(self, claim: RangeClaim, error: str, *, failed: bool = True) -> None:
        """Give a range back, with the reason, so that it is tried again.

        Args:
            claim: of the range.
            error: the reason.
            failed: whether this counts as a failure of the range.
        """

    async def wake(self, flow: UUID) -> None:
        """Let the ranges of a flow be claimed at once: after failures, a pause, or its time."""

    async def rest(self, flow: UUID, at: datetime) -> None:
        """Let a flow read no more changes from a time on, before it is woken."""

    async def next(self, flow: UUID) -> tuple[int, dict[str, Any]] | None:
        """Number and request of the first range of a flow that is in the queue."""

    async def last(self, flow: UUID) -> int:
        """Number of the last range of a flow that was ever put in; -1 if there was none."""

    async def readers(self, generation: UUID) -> list[UUID]:
        """Flows that have still to read points or changes of a generation."""

    async def remaining(self, flow: UUID | None = None) -> int:
        """How many ranges of a flow, or of all flows, are to be worked on."""

    async def failing(self, flow: UUID, attempts: int) -> str | None:
        """The last error of a range that was tried this often, or None."""

    async def cancel(self, flow: UUID) -> None:
        """Take all ranges of a flow out of the queue."""
