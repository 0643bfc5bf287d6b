"""Restructure rows of an application's table."""

from typing import Any

from domain.model.errors import Conflict
from domain.ports import SourceTable
from domain.use_cases.steps.step_run import StepRun


def _table(run: StepRun) -> SourceTable:
    return run.tools.stores.table(run.step.params["connection"], run.step.params["table"])


async def do(run: StepRun) -> dict[str, Any]:
    """Set the new values, in one transaction.

    Raises:
        Conflict: rows hold neither the planned value before nor the one after.
    """
    changes = {row: (before, after) for row, (before, after) in run.step.params["changes"].items()}
    refused = await _table(run).replace_names(changes)
    if refused:
        raise Conflict(
            f"rows of {run.step.params['table']} changed since the plan was made: "
            + ", ".join(sorted(refused))
        )
    return {"rows": sorted(changes)}


async def undo(run: StepRun) -> dict[str, Any]:
    """Put the former values back; rows that somebody changed since keep their value."""
    changes = {row: (after, before) for row, (before, after) in run.step.params["changes"].items()}
    kept = await _table(run).replace_names(changes)
    return {"rows": sorted(changes.keys() - kept.keys()), "kept": sorted(kept)}
