"""What workers wait for, in their own words: the last warning of a role, while it is fresh.

A worker that cannot go on warns at every try, at least every five seconds. Whoever asks sees that
through the worker's sign of life: `doctor`, and `apply` while nothing happens.
"""

import logging
import time
from collections.abc import Sequence

from domain.ports import WorkerBeat

FRESH_SECONDS = 10.0

_ROLES = {
    "migration_ledger.applier": "applier",
    "migration_ledger.coordinator": "coordinator",
    "migration_ledger.flow": "flow",
    "migration_ledger.projector": "projector",
    "migration_ledger.relay": "relay",
}


class Complaints(logging.Handler):
    """Remembers the last warning of each role of this process."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last: dict[str, tuple[float, str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a warning that says why."""
        role = _ROLES.get(record.name)
        reason = vars(record).get("error") or vars(record).get("cause")
        if role is not None and reason:
            self._last[role] = time.monotonic(), str(reason)

    def of(self, role: str) -> str | None:
        """What a role waits for, or None if it has not warned for a while."""
        at, reason = self._last.get(role, (0.0, ""))
        return reason if reason and time.monotonic() - at < FRESH_SECONDS else None


def waits(workers: Sequence[WorkerBeat]) -> dict[str, str]:
    """What these workers wait for, by role."""
    return {w.role: w.detail["waits"] for w in workers if w.detail.get("waits")}
