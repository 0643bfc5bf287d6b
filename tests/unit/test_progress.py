"""How far a migration is: counts, rate and estimated time, from its document."""

from datetime import UTC, datetime, timedelta
from typing import Any

from domain.use_cases.progress import progress

START = datetime(2026, 1, 1, tzinfo=UTC)


def document(**facts: Any) -> dict[str, Any]:
    return {
        "state": "running",
        "phase": "migration",
        "points": 1000,
        "applied": 250,
        "unplaced": 3,
        "started_at": START.isoformat(),
        "finished_at": None,
        "errors": [],
        **facts,
    }


def test_rate_and_eta_follow_from_what_is_done_since_the_start() -> None:
    found = progress(document(), START + timedelta(seconds=10))
    assert (found["total"], found["processed"], found["failed"]) == (1000, 250, 3)
    assert found["rate"] == 25.0
    assert found["eta_seconds"] == 30.0
    assert found["phase"] == "migration"


def test_a_finished_migration_keeps_its_rate_and_has_no_eta() -> None:
    finished = document(
        state="completed",
        applied=1000,
        finished_at=(START + timedelta(seconds=20)).isoformat(),
    )
    found = progress(finished, START + timedelta(days=3))
    assert (found["rate"], found["eta_seconds"]) == (50.0, None)


def test_a_failed_migration_has_no_eta() -> None:
    found = progress(document(state="failed"), START + timedelta(seconds=10))
    assert found["eta_seconds"] is None


def test_nothing_applied_yet_leaves_the_eta_unknown() -> None:
    found = progress(document(applied=0), START + timedelta(seconds=10))
    assert (found["rate"], found["eta_seconds"]) == (0.0, None)


def test_a_migration_that_never_started_has_no_rate() -> None:
    found = progress(document(state="planned", started_at=None), START)
    assert (found["rate"], found["eta_seconds"]) == (0.0, None)


def test_no_time_since_the_start_is_not_divided_by() -> None:
    assert progress(document(), START)["rate"] == 0.0


def test_more_points_than_estimated_do_not_exceed_the_total() -> None:
    assert progress(document(applied=1200), START + timedelta(seconds=1))["processed"] == 1000


def test_errors_are_handed_on() -> None:
    error = {"at": START.isoformat(), "step": "flow", "category": "StepBlocked", "error": "no"}
    assert progress(document(errors=[error]), START)["errors"] == [error]


def test_without_a_document_there_is_nothing_to_count() -> None:
    found = progress({}, START)
    assert (found["total"], found["processed"], found["eta_seconds"]) == (0, 0, None)
