"""What reading one range of a flow takes, and what it gives."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from domain.model.recorded import ChangeSetDraft

CHANGE_SETS_A_RANGE = 10
CHANGED_POINTS_A_RANGE = 5000
EXAMPLES = 20


def parts_of(keys: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """The keys in parts of at most a size: one for each change set."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


@dataclass(frozen=True)
class Place:
    """A range, as far as reading it goes.

    Attributes:
        flow: stream of the flow.
        number: of the range.
        request: what to read: points after a key, or changes since a version.
    """

    flow: UUID
    number: int
    request: dict[str, Any]

    @property
    def after(self) -> bytes:
        """The key that the points of the range come after."""
        return bytes.fromhex(self.request["after"])

    def source(self, step: str) -> dict[str, Any]:
        """What change sets say of where they come from."""
        return {"flow": str(self.flow), "range": self.number, "step": step}


@dataclass
class RangeResult:
    """What a range holds.

    Attributes:
        kind: what the range read.
        drafts: change sets to record.
        read: points read.
        following: what the next range has to read, or None at the end of the source.
        placed: points by the generation that they go to.
        unplaced: points without a route, by reason.
        examples: ids of some of these.
    """

    kind: str
    drafts: list[ChangeSetDraft] = field(default_factory=list)
    read: int = 0
    following: dict[str, Any] | None = None
    placed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    unplaced: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    examples: dict[str, list[int | str]] = field(default_factory=lambda: defaultdict(list))

    def leave(self, reason: str, point: int | str) -> None:
        """Count a point that has no route."""
        self.unplaced[reason] += 1
        if len(self.examples[reason]) < EXAMPLES:
            self.examples[reason].append(point)
