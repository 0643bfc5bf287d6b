"""Migrations as people watch them: state, phase, counts, times, errors."""

from typing import Any

from domain.model.recorded import Recorded

Document = dict[str, Any]


class Migrations:
    """One document for each migration, by its id."""

    name = "migrations"
    shape = 2

    def key(self, recorded: Recorded) -> str | None:
        """Its own events by stream; those of flows and appliers by correlation."""
        if recorded.topic.startswith("migration."):
            return str(recorded.stream)
        if recorded.topic in {"flow.range-recorded", "application.changes-applied"}:
            return recorded.context.correlation_id or None
        return None

    def apply(self, document: Document | None, recorded: Recorded) -> Document | None:
        """The migration after the event."""
        at = recorded.at
        if document is None:
            if recorded.topic != "migration.planned":
                return None
            return _planned(recorded, at)
        fields = vars(recorded.event)
        document["updated_at"] = at
        if recorded.topic in _CHANGES:
            _CHANGES[recorded.topic](document, fields, at)
        if recorded.topic in {"migration.started", "migration.rollback-requested"}:
            document["asked_by"] = recorded.context.actor.id
            document["asked_reason"] = recorded.context.reason
        return document


def _planned(recorded: Recorded, at: str) -> Document:
    fields = vars(recorded.event)
    estimates = fields["plan"]["estimates"]
    return {
        "id": str(recorded.stream),
        "name": fields["name"],
        "recipe": fields["recipe"],
        "attempt": fields["attempt"],
        "plan_hash": fields["plan_hash"],
        "steps": [step["id"] for step in fields["plan"]["steps"]],
        "state": "planned",
        "phase": None,
        "step": None,
        "planned_by": recorded.context.actor.id,
        "reason": recorded.context.reason,
        "planned_at": at,
        "started_at": None,
        "finished_at": None,
        "updated_at": at,
        "points": sum(estimates.get("points", {}).values()),
        "captured": 0,
        "routed": 0,
        "applied": 0,
        "unplaced": 0,
        "gaps": {},
        "done": [],
        "undone": [],
        "errors": [],
        "statistics": None,
    }


def _started(document: Document, _fields: Document, at: str) -> None:
    document["state"] = "running"
    document["started_at"] = document["started_at"] or at
    document["finished_at"] = None


def _step_started(document: Document, fields: Document, _at: str) -> None:
    document["step"], document["phase"] = fields["step"], fields["phase"]


def _step_completed(document: Document, fields: Document, _at: str) -> None:
    document["done"].append(fields["step"])
    document["gaps"] |= fields["result"].get("gap_ms", {})


def _failed(document: Document, fields: Document, at: str) -> None:
    document["state"], document["finished_at"] = "failed", at
    document["errors"].append(
        {"at": at, "step": fields["step"], "category": fields["category"], "error": fields["error"]}
    )


def _completed(document: Document, fields: Document, at: str) -> None:
    document["state"], document["phase"], document["step"] = "completed", None, None
    document["finished_at"], document["statistics"] = at, fields["statistics"]


def _rolling_back(document: Document, fields: Document, _at: str) -> None:
    document["state"], document["cancelled"] = "rolling back", fields["cancelled"]
    document["finished_at"] = None


def _compensated(document: Document, fields: Document, _at: str) -> None:
    document["undone"].append(fields["step"])


def _rolled_back(document: Document, _fields: Document, at: str) -> None:
    document["state"] = "cancelled" if document["cancelled"] else "rolled back"
    document["phase"], document["step"], document["finished_at"] = None, None, at


def _range(document: Document, fields: Document, _at: str) -> None:
    counter = {"capture": "captured", "route": "routed"}.get(fields["kind"])
    if counter:
        document[counter] += sum(fields["placed"].values())
        document["unplaced"] += sum(fields["unplaced"].values())


def _applied(document: Document, fields: Document, _at: str) -> None:
    document["applied"] += fields["points"]


_CHANGES = {
    "migration.started": _started,
    "migration.step-started": _step_started,
    "migration.step-completed": _step_completed,
    "migration.step-failed": _failed,
    "migration.rollback-failed": _failed,
    "migration.completed": _completed,
    "migration.rollback-requested": _rolling_back,
    "migration.step-compensated": _compensated,
    "migration.rolled-back": _rolled_back,
    "flow.range-recorded": _range,
    "application.changes-applied": _applied,
}
