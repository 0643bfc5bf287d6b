"""Copy what others wrote to collections in their store after the hand-over."""

from typing import Any

from domain.model.errors import Corrupt
from domain.model.flow import Flow
from domain.model.migration import Migration
from domain.use_cases.steps.flow_control import caught_up, late_id, start_late, stop_flow
from domain.use_cases.steps.step_run import StepRun
from domain.use_cases.take_in import take_in


async def do(run: StepRun) -> dict[str, Any]:
    """Compare the sources with the ledger, and copy what changed where the copy did not."""
    migration = await run.tools.ledger.load(Migration, run.migration)
    if migration is None:
        raise Corrupt(f"migration {run.migration} is not in the ledger")
    versions = migration.results[run.step.params["hand_over"]]["versions"]
    copies = await run.looked_after(versions["copies"])
    late, flows = {}, []
    for source in await run.looked_after(versions["sources"]):
        forward = await run.tools.ledger.load(
            Flow, run.forward_flow(run.step.params["flow_step"], source.physical)
        )
        if forward is None:
            raise Corrupt(f"the flow of {source.physical!r} is not in the ledger")
        late[source.physical] = await take_in(run.tools, source, run.context)
        flows.append(
            await start_late(
                run,
                forward,
                handed_over=versions["sources"][source.physical],
                copies={c.generation: versions["copies"][c.physical] for c in copies},
            )
        )
    for flow in flows:
        await caught_up(run, flow)
    for flow in flows:
        await stop_flow(run, flow)
    await run.applied([status.generation for status in copies])
    return {"late": late}


async def undo(run: StepRun) -> dict[str, Any]:
    """End the flows; what they copied is given back with the rest."""
    for planned in run.step.params["flows"]:
        for source in await run.looked_after([planned["source"]]):
            flow = late_id(run, source.generation)
            if await run.tools.ledger.load(Flow, flow) is not None:
                await stop_flow(run, flow)
    return {}
