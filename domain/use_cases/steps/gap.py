"""The gap: how long nothing answers under a name whose collection is dropped for an alias."""

import math
from contextlib import aclosing
from datetime import timedelta

from domain.model.application import Application
from domain.model.errors import NotFound
from domain.model.generation import Generation
from domain.model.recorded import Recorded
from domain.use_cases.steps.step_run import StepRun
from domain.use_cases.tools import stream_events

MILLISECOND = timedelta(milliseconds=1)


async def gap_ms(run: StepRun, alias: str) -> int | None:
    """For how many milliseconds nothing answered under an alias that the step has pointed.

    From when the drop was recorded until the receipt of the alias was, both by the clock of the
    database: an upper bound, which is the same whoever asks, and however often it crashed.

    Returns:
        None if the migration did not drop a collection of this name, or somebody gave up to let the
        store have the alias.
    """
    dropped = await _dropped(run, alias)
    receipt = await _receipt(run, alias) if dropped is not None else None
    if dropped is None or receipt is None:
        return None
    return math.ceil((receipt.recorded_at - dropped.recorded_at) / MILLISECOND)


async def _dropped(run: StepRun, physical: str) -> Recorded | None:
    """The event with which this migration dropped a collection, or None."""
    known = await run.tools.applications.generations(store=run.store_name, physical=physical)
    for status in known[-1:]:
        for recorded in await run.tools.ledger.events(status.generation, after=status.recorded - 1):
            ours = recorded.context.correlation_id == str(run.migration)
            if ours and isinstance(recorded.event, Generation.Dropped):
                return recorded
    return None


async def _receipt(run: StepRun, alias: str) -> Recorded | None:
    """The first receipt that covers the alias, or None."""
    answer = await run.tools.ledger.answer(run.key(alias))
    if answer is None:
        raise NotFound(f"alias {alias!r} was not pointed by this step")
    (pointed,) = await run.tools.ledger.read(answer.position - 1, 1)
    stream = Application.create_id(str(pointed.stream))
    async with aclosing(stream_events(run.tools.ledger, stream)) as reports:
        async for report in reports:
            event = report.event
            if (
                isinstance(event, Application.ChangesApplied | Application.StoreRecovered)
                and event.through >= pointed.version
            ):
                return report
    return None
