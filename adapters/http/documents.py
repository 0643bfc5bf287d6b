"""What the API answers with: migrations, plans and operations."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from domain.model.migration import State
from domain.model.plan import Phase, StepKind

ID = "5f0c8f0e-7f0b-5d0a-9a55-0d9f3c1b2a10"
HASH = "9f2c6b0d1a7e4c3f8b5a2d1e0f9c8b7a6d5e4f3c2b1a09f8e7d6c5b4a3928170"


class StepDocument(BaseModel):
    """One step of a plan."""

    id: str = Field(description="Unique in the plan.")
    kind: StepKind
    phase: Phase
    params: dict[str, Any] = Field(description="What its executor needs.")
    does: str
    undo: str = Field(description="What its compensation does.")
    verify: str = Field(description="How it is verified.")


class PlanDocument(BaseModel):
    """A plan, and the migration that has it."""

    id: UUID | None = Field(description="Id of the migration; null in a dry run.", examples=[ID])
    name: str
    recipe: str
    attempt: int = Field(description="1 for the first migration with this spec.")
    state: State | None = Field(description="State of the migration; null in a dry run.")
    plan_hash: str = Field(
        description="SHA-256 of steps and facts: what apply takes.", examples=[HASH]
    )
    steps: list[StepDocument]
    facts: dict[str, Any] = Field(description="What the plan depends on; other facts stale it.")
    estimates: dict[str, Any] = Field(description="Counts that may change without staling it.")
    notes: list[str] = Field(description="What to know before applying it.")


class StepError(BaseModel):
    """Why a step failed."""

    at: datetime
    step: str
    category: str = Field(description="Kind of the error.")
    error: str = Field(description="What happened, and the way out.")


class ProgressDocument(BaseModel):
    """How far a migration is."""

    phase: Phase | None = Field(description="What it is doing now.")
    total: int = Field(description="Points to process, as estimated by the plan.")
    processed: int = Field(description="Points that the store has where they belong.")
    failed: int = Field(description="Points that have no place.")
    rate: float = Field(description="Points per second.")
    eta_seconds: float | None = Field(description="Estimated seconds to go; null if unknown.")
    errors: list[StepError]


class MigrationDocument(BaseModel):
    """A migration as people watch it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": ID,
                "name": "split-knowledge-base",
                "recipe": "per-domain-collections",
                "attempt": 1,
                "plan_hash": HASH,
                "steps": ["adopt", "create", "flow", "check", "aliases"],
                "state": "running",
                "phase": "migration",
                "step": "flow",
                "planned_by": "mara",
                "reason": "Domain isolation",
                "planned_at": "2026-01-01T00:00:00Z",
                "started_at": "2026-01-01T00:00:05Z",
                "finished_at": None,
                "updated_at": "2026-01-01T00:00:09Z",
                "gaps": {},
                "done": ["adopt", "create"],
                "undone": [],
                "statistics": None,
                "progress": {
                    "phase": "migration",
                    "total": 20000,
                    "processed": 8000,
                    "failed": 0,
                    "rate": 2000.0,
                    "eta_seconds": 6.0,
                    "errors": [],
                },
            }
        }
    )

    id: UUID
    name: str
    recipe: str
    attempt: int
    plan_hash: str
    steps: list[str] = Field(description="Ids of the plan's steps, in order.")
    state: State
    phase: Phase | None
    step: str | None = Field(description="The step that runs.")
    planned_by: str
    reason: str
    planned_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    asked_by: str | None = Field(default=None, description="Who asked last to start or undo it.")
    asked_reason: str | None = Field(default=None, description="Why.")
    gaps: dict[str, int] = Field(
        default_factory=dict,
        description="For how many milliseconds nothing answered under a name, by name: from the "
        "drop of its collection until its alias was pointed.",
    )
    done: list[str] = Field(description="Steps that are completed.")
    undone: list[str] = Field(description="Steps that are undone.")
    statistics: dict[str, Any] | None = Field(description="Counts of what a completed one did.")
    progress: ProgressDocument


class OldSideDocument(BaseModel):
    """A collection that gets what is written to the copies of its points."""

    collection: str = Field(description="Its name in the store.")
    store: str
    copies: int = Field(description="How many collections give back to it.")
    behind: int = Field(description="Changes of these that it does not have yet.")
    until: datetime | None = Field(description="When it gets no more.")
    warm: bool = Field(description="Whether it gets them now.")
    stuck: str | None = Field(description="Why one of them cannot go back.")


class MigrationPage(BaseModel):
    """Some migrations, in the order of their ids."""

    items: list[MigrationDocument]
    next: str | None = Field(description="`after` of the next page; null on the last one.")


class Operation(BaseModel):
    """Something that was done: an event of the ledger without its bulk."""

    position: int = Field(description="In the whole ledger.")
    at: datetime
    what: str = Field(description="Topic of the event.", examples=["migration.started"])
    stream: UUID
    version: int
    who: str
    established: str = Field(description="How the ledger knows who it was.")
    why: str
    migration: str
    cause: str = Field(description="Name of the request, or position of the event, behind it.")
    detail: dict[str, Any]


class OperationPage(BaseModel):
    """Operations in the order of the ledger."""

    items: list[Operation]
    next: int | None = Field(description="`after` of the next page; null on the last one.")
    through: int = Field(description="Position in the ledger up to which the list is complete.")


class Reason(BaseModel):
    """Why something is asked for."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "Wrong"}})

    reason: str = Field(min_length=1, max_length=2000, description="Recorded with the events.")


class Application(Reason):
    """Which plan is to be applied, and why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"plan_hash": HASH, "reason": "Window"}}
    )

    plan_hash: str = Field(description="Hash of the plan that was read and approved.")
