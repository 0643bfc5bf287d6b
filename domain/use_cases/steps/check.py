"""Check that collections hold exactly what the ledger says, bit for bit."""

from typing import Any

from domain.use_cases.concurrently import concurrently
from domain.use_cases.steps.step_run import StepBlocked, StepRun
from domain.use_cases.verify import Verification, verify

CONCURRENT_SCANS = 2


async def do(run: StepRun) -> dict[str, Any]:
    """Verify every collection of the step."""
    return await verified(run, run.step.params["collections"])


async def verified(run: StepRun, collections: list[str]) -> dict[str, Any]:
    """Verify collections against the ledger, after the appliers are through.

    Raises:
        StepBlocked: some differ; the message lists them all.
    """
    await run.applied([(await run.generation(physical)).generation for physical in collections])

    async def one(physical: str) -> Verification:
        return await verify(
            run.tools.ledger, run.tools.applications, run.tools.stores, run.store_name, physical
        )

    found = await concurrently((one(physical) for physical in collections), CONCURRENT_SCANS)
    different = [str(verification) for verification in found if not verification.equal]
    if different:
        raise StepBlocked(
            f"{len(different)} of {len(found)} collections differ from the ledger: "
            + "; ".join(different)
            + ". If something else writes to them, stop it and apply again."
        )
    return {
        "points": sum(verification.points for verification in found),
        "digests": {verification.physical: verification.digest for verification in found},
    }


async def undo(_run: StepRun) -> dict[str, Any]:
    """A check changes nothing."""
    return {}
