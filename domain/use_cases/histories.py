"""Whether others have seen another history of the ledger than it has; if so, all work halts."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from domain.model.errors import Corrupt, Halted, Rejected, Unavailable
from domain.model.recorded import Cursor
from domain.model.timeline import Finding, Standing, Witness, contradicted, summary
from domain.ports import GenerationStatus, Ledger, Stores
from domain.use_cases.concurrently import concurrently

logger = logging.getLogger("migration_ledger.history")


async def contradictions(
    ledger: Ledger, witnesses: Iterable[Witness], standing: Standing
) -> list[Finding]:
    """The witnesses of this ledger that it contradicts. What is of a lower timeline is stale."""
    found = []
    for witness in witnesses:
        if of_another_ledger(witness, standing):
            continue
        known = await knows(ledger, witness)
        head = Cursor() if known else await ledger.head()
        says = contradicted(witness, standing, head, known=known)
        if says is not None:
            timeline = standing.timeline if witness.timeline is None else witness.timeline
            place = witness.position, witness.hash, timeline
            found.append(Finding(witness.where, *place, says, witness.collection))
    return found


def of_another_ledger(witness: Witness, standing: Standing) -> bool:
    """Whether a witness speaks of another ledger; one that names none is ours."""
    return witness.ledger not in {"", standing.ledger}


async def knows(ledger: Ledger, witness: Witness) -> bool:
    """Whether the ledger has the event that a witness has seen."""
    try:
        await ledger.verify_cursor(witness.cursor)
    except Corrupt:
        return False
    return True


async def refuse_other_history(ledger: Ledger, witnesses: Iterable[Witness]) -> None:
    """Halt all work if the ledger contradicts a witness.

    Raises:
        Halted: it does, or work was halted before.
    """
    standing = await ledger.standing()
    found = await contradictions(ledger, witnesses, standing)
    if not found:
        return
    known = standing.halt.findings if standing.halt else ()
    if not {finding.where for finding in found} <= {finding.where for finding in known}:
        logger.error("other_history", extra={"findings": summary(found)})
        await ledger.halt(found)
    raise Halted(f"work is halted: {summary(found)}. Run `migration-ledger recover`.")


async def witnesses_in(stores: Stores, name: str) -> dict[str, Witness | None]:
    """What the collections of a store say of the ledger, by physical name."""
    store = stores.store(name)

    async def read(physical: str) -> tuple[str, Witness | None]:
        witness = await store.read_witness(physical)
        return physical, witness and _named(witness, name, physical)

    return dict(await concurrently(read(physical) for physical in await store.collections()))


def where(store: str, physical: str) -> str:
    """A collection, for people."""
    return f"collection {physical} of store {store}"


def _named(witness: Witness, store: str, physical: str) -> Witness:
    return replace(witness, where=where(store, physical), collection=(store, physical))


async def refuse_newer_collection(
    ledger: Ledger, stores: Stores, status: GenerationStatus
) -> Witness | None:
    """What a collection says of the ledger; halts all work if it has seen another history.

    Raises:
        Halted: it has.
    """
    witness = await stores.store(status.store).read_witness(status.physical)
    if witness is not None:
        await refuse_other_history(ledger, [_named(witness, status.store, status.physical)])
    return witness


async def refuse_newer_stores(ledger: Ledger, stores: Stores) -> None:
    """Halt all work if a store has seen another history; one that is away is passed over.

    Raises:
        Halted: one has.
    """
    for name in stores.names:
        try:
            found = await witnesses_in(stores, name)
        except (Unavailable, Rejected) as error:
            logger.warning("store_not_looked_at", extra={"store": name, "error": str(error)})
            continue
        await refuse_other_history(ledger, [w for w in found.values() if w is not None])
