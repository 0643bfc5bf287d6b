"""Plans: what a migration will do, as data that people read and executors run."""

import textwrap
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any

import orjson

SHOWN_CHARACTERS = 80


class StepKind(StrEnum):
    """What executors know how to do and undo. Recipes compose these."""

    ADOPT = "adopt"
    CREATE = "create"
    HOLD_WRITES = "hold-writes"
    RESTORE = "restore"
    FLOW = "flow"
    CHECK = "check"
    HAND_OVER = "hand-over"
    LOOK_AGAIN = "look-again"
    POINT_ALIASES = "point-aliases"
    RESTRUCTURE = "restructure"
    DROP = "drop"
    RESUME_WRITES = "resume-writes"


class Phase(StrEnum):
    """What a person sees a migration doing."""

    BACKUP = "backup"
    CREATION = "creation"
    MIGRATION = "migration"
    VERIFICATION = "verification"
    CUT_OVER = "cut-over"
    CLEAN_UP = "clean-up"


@dataclass(frozen=True)
class Step:
    """One step of a plan.

    Attributes:
        id: unique in the plan, and stable: idempotency keys are made of it.
        kind: which executor runs it.
        phase: shown as progress.
        params: what the executor needs, plain JSON.
        does: what it does, in a sentence.
        undo: what its compensation does, in a sentence.
        verify: how it is verified, in a sentence.
    """

    id: str
    kind: StepKind
    phase: Phase
    params: dict[str, Any]
    does: str
    undo: str
    verify: str

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Step":
        """The step that `Plan.to_json` wrote."""
        return cls(
            **{**document, "kind": StepKind(document["kind"]), "phase": Phase(document["phase"])}
        )


@dataclass(frozen=True)
class Plan:
    """Ordered steps, with what was known when they were planned.

    Attributes:
        steps: in the order in which they run; compensations run in the reverse order.
        facts: what the inspection found and the plan depends on; other facts make it stale.
        estimates: counts that may change without making it stale.
        notes: what a reader should know before applying it.
    """

    steps: tuple[Step, ...]
    facts: dict[str, Any]
    estimates: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for events."""
        document: dict[str, Any] = orjson.loads(orjson.dumps(asdict(self)))
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Plan":
        """The plan that `to_json` wrote."""
        return cls(
            steps=tuple(Step.from_json(step) for step in document["steps"]),
            facts=document["facts"],
            estimates=document["estimates"],
            notes=tuple(document["notes"]),
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of steps and facts, in hexadecimal."""
        document = self.to_json()
        pinned = {"steps": document["steps"], "facts": document["facts"]}
        return sha256(orjson.dumps(pinned, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def drift_from(self, other: "Plan") -> tuple[str, ...]:
        """A sentence for each fact that is not what it was when `other` was made.

        Where no fact says it, steps that would do something else now are named.
        """
        facts = _differences(other.facts, self.facts, "")
        if facts:
            return tuple(facts)
        return tuple(
            f"step {step.id} would do something else now"
            for step in other.steps
            if (step.kind, step.params) not in [(now.kind, now.params) for now in self.steps]
        )


def _differences(before: Any, after: Any, path: str) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in sorted(before.keys() | after.keys()):
            where = f"{path} {key}".strip()
            if key not in after:
                found.append(f"{where} is gone")
            elif key not in before:
                found.append(f"{where} is new")
            else:
                found += _differences(before[key], after[key], where)
        return found
    return [] if before == after else [f"{path} was {_short(before)} and is {_short(after)}"]


def _short(value: Any) -> str:
    return textwrap.shorten(orjson.dumps(value).decode(), SHOWN_CHARACTERS, placeholder="...")
