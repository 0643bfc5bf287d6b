"""What came of a schedule."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.injection import Told
from tests.faults.schedule import Schedule

EXAMPLES = 3


@dataclass
class Verdict:
    """What came of a schedule.

    Attributes:
        schedule: that ran.
        folder: with logs and data.
        findings: name of the check and what it found; empty when all is well.
        told: what happened.
        recovery: seconds from the end of the last fault until everyone had caught up.
        calm: seconds from then until the programs were stopped.
        events: in the ledger at the end.
    """

    schedule: Schedule
    folder: Path
    findings: list[tuple[str, str]] = field(default_factory=list)
    told: Told = field(default_factory=Told)
    recovery: float = 0.0
    calm: float = 0.0
    events: int = 0

    def find(self, check: str, found: list[str]) -> None:
        """Note what a check found, or the first of it."""
        room = max(0, EXAMPLES - len(self.findings_of(check)))
        self.findings += [(check, one) for one in found[:room]]

    def findings_of(self, check: str) -> list[str]:
        """What a check found."""
        return [found for name, found in self.findings if name == check]
