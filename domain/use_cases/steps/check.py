"""Check that collections hold exactly what the ledger says, bit for bit."""

from typing import Any

from domain.model.migration import Migration
from domain.model.plan import StepKind
from domain.use_cases.concurrently import concurrently
from domain.use_cases.steps.step_run import StepBlocked, StepRun
from domain.use_cases.verify import Verification
from domain.use_cases.versions import digest_by_now

CONCURRENT_SCANS = 2

WAY_OUT = (
    "If something else writes to them, stop it, or let the spec say so (`from.observed`). Mend "
    "what differs and apply again, or roll back and plan again."
)


async def do(run: StepRun) -> dict[str, Any]:
    """Verify every collection of the step."""
    return await verified(run, run.step.params["collections"])


async def verified(run: StepRun, collections: list[str], way_out: str = WAY_OUT) -> dict[str, Any]:
    """Verify collections against the ledger, after the appliers are through.

    Args:
        run: of the step that needs them to be equal.
        collections: physical names.
        way_out: what to do where one differs.

    Raises:
        StepBlocked: some differ; the message lists them all.
    """
    await run.applied([(await run.generation(physical)).generation for physical in collections])
    found = await concurrently(
        (run.verify_and_record(physical) for physical in collections), CONCURRENT_SCANS
    )
    expected = await _without_erased(run, run.step.params.get("digests", {}))
    different = [problem for one in found if (problem := _problem(one, expected))]
    if different:
        raise StepBlocked(
            f"{len(different)} of {len(found)} collections differ from the ledger: "
            + "; ".join(different)
            + f". {way_out}"
        )
    return {
        "points": sum(verification.points for verification in found),
        "digests": {verification.physical: verification.digest for verification in found},
    }


async def _without_erased(run: StepRun, digests: dict[str, str]) -> dict[str, str]:
    """The digests that a plan wants; a restore leaves out who was erased since it was planned."""
    migration = await run.tools.ledger.load(Migration, run.migration) if digests else None
    if migration is None or all(step.kind is not StepKind.RESTORE for step in migration.plan.steps):
        return digests
    digest = await digest_by_now(run.tools.ledger, migration.plan.facts["version"])
    return dict.fromkeys(digests, digest)


def _problem(found: Verification, expected: dict[str, str]) -> str | None:
    """What is wrong with a collection: it differs, or it is another version than it should be."""
    if not found.equal:
        return str(found)
    digest = expected.get(found.physical, found.digest)
    if found.digest != digest:
        return f"{found.physical} has digest {found.digest}, and the version has {digest}"
    return None


async def undo(_run: StepRun) -> dict[str, Any]:
    """A check changes nothing."""
    return {}
