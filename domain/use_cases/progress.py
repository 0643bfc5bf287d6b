"""How far a migration is, from its read model."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def progress(document: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Counts, rate and estimated time of a document of the `migrations` projection.

    Args:
        document: as the projection has it; empty if it has none yet.
        now: the time at which to look, with a time zone.

    Returns:
        `phase`, `total`, `processed`, `failed` (points without a place), `rate` (points per
        second), `eta_seconds` (None when unknown) and `errors`.
    """
    if not document:
        return {
            "phase": None,
            "total": 0,
            "processed": 0,
            "failed": 0,
            "rate": 0.0,
            "eta_seconds": None,
            "errors": [],
        }
    total, processed = document["points"], min(document["applied"], document["points"])
    rate = 0.0
    if document["started_at"]:
        end = datetime.fromisoformat(document["finished_at"]) if document["finished_at"] else now
        seconds = (end - datetime.fromisoformat(document["started_at"])).total_seconds()
        rate = processed / seconds if seconds > 0 else 0.0
    running = document["state"] == "running" and rate > 0
    return {
        "phase": document["phase"],
        "total": total,
        "processed": processed,
        "failed": document["unplaced"],
        "rate": round(rate, 1),
        "eta_seconds": round((total - processed) / rate, 1) if running else None,
        "errors": document["errors"],
    }
