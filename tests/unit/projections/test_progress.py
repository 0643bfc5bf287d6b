"""Rate and estimated time of a migration's read model."""

from datetime import timedelta
from typing import Any

import pytest

from domain.use_cases.progress import progress
from tests.builders import START

DOCUMENT: dict[str, Any] = {
    "state": "running",
    "phase": "migration",
    "points": 1000,
    "applied": 250,
    "unplaced": 3,
    "started_at": START.isoformat(),
    "finished_at": None,
    "errors": [],
}


def after(seconds: float, **changes: Any) -> dict[str, Any]:
    return progress({**DOCUMENT, **changes}, START + timedelta(seconds=seconds))


def test_rate_and_estimated_time() -> None:
    assert after(10) == {
        "phase": "migration",
        "total": 1000,
        "processed": 250,
        "failed": 3,
        "rate": 25.0,
        "eta_seconds": 30.0,
        "errors": [],
    }


def test_nothing_is_known_before_there_is_a_document() -> None:
    assert progress({}, START) == {
        "phase": None,
        "total": 0,
        "processed": 0,
        "failed": 0,
        "rate": 0.0,
        "eta_seconds": None,
        "errors": [],
    }


@pytest.mark.parametrize(
    ("seconds", "changes"),
    [
        (10, {"started_at": None}),
        (10, {"applied": 0}),
        (0, {}),
        (-1, {}),
    ],
)
def test_without_a_rate_there_is_no_estimate(seconds: float, changes: dict[str, Any]) -> None:
    found = after(seconds, **changes)
    assert (found["rate"], found["eta_seconds"]) == (0.0, None)


@pytest.mark.parametrize("state", ["planned", "failed", "completed", "rolling back", "cancelled"])
def test_only_what_runs_has_an_estimate(state: str) -> None:
    assert after(10, state=state)["eta_seconds"] is None


def test_a_finished_migration_keeps_its_rate() -> None:
    finished = (START + timedelta(seconds=20)).isoformat()
    found = after(5000, state="completed", applied=1000, finished_at=finished)
    assert (found["rate"], found["eta_seconds"]) == (50.0, None)


def test_what_was_written_twice_is_not_more_than_everything() -> None:
    found = after(10, applied=1200)
    assert (found["processed"], found["eta_seconds"]) == (1000, 0.0)


def test_errors_are_shown() -> None:
    error = {"at": "t", "step": "s", "category": "Rejected", "error": "no"}
    assert after(10, errors=[error])["errors"] == [error]
