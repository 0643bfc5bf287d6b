"""Old sides: what a migration copied from, and whether it gets what is written to the copies."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from domain.model.flow import Flow
from domain.model.migration import Migration, State
from domain.model.plan import StepKind
from domain.ports import GenerationStatus
from domain.use_cases.steps.flow_control import return_id
from domain.use_cases.tools import Tools, live_generation


@dataclass(frozen=True)
class OldSide:
    """A collection that gets what is written to the copies of its points.

    Attributes:
        collection: its name in the store.
        store: that has it.
        copies: how many collections give back to it.
        behind: changes of these that it does not have yet.
        until: when it gets no more; None if only a rollback lets it have them.
        warm: whether it gets them now.
        stuck: why one of them cannot go back, or None.
    """

    collection: str
    store: str
    copies: int
    behind: int
    until: datetime | None
    warm: bool
    stuck: str | None

    def __str__(self) -> str:
        """What a person reads about it."""
        said = f"{self.behind:,} changes behind" if self.behind else "up to date"
        if self.stuck is not None:
            return f"{said}; {self.stuck}"
        if self.until is None:
            return said
        return f"{said}, {'kept so' if self.warm else 'was kept so'} until {self.until.isoformat()}"


async def old_sides(tools: Tools, migration: Migration) -> list[OldSide]:
    """The collections that a completed migration keeps, or kept, warm; by name."""
    found: list[OldSide] = []
    if migration.state not in {State.COMPLETED, State.FAILED, State.ROLLING_BACK}:
        return found
    for step in migration.plan.steps:
        if step.kind is not StepKind.HAND_OVER or step.id not in migration.results:
            continue
        for planned in step.params["flows"]:
            store = step.params["store"]
            origin = await live_generation(tools.applications, store, planned["source"])
            if origin is None:
                continue
            returns = []
            for name in planned["copies"]:
                copy = await live_generation(tools.applications, store, name)
                if copy is not None:
                    flow = return_id(migration.id, step.id, origin, copy)
                    returns += await _returning(tools, flow, copy)
            if returns:
                found.append(_summary(origin, returns))
    return found


@dataclass(frozen=True)
class _Return:
    behind: int
    until: datetime | None
    stuck: str | None


async def _returning(tools: Tools, stream: UUID, copy: GenerationStatus) -> list[_Return]:
    flow = await tools.ledger.load(Flow, stream)
    queued = await tools.ranges.next(stream)
    if flow is None or queued is None:
        return []
    behind = copy.recorded - queued[1]["since"]
    return [_Return(behind, flow.until, await tools.ranges.failing(stream, 1))]


def _summary(origin: GenerationStatus, returns: list[_Return]) -> OldSide:
    until = returns[0].until
    return OldSide(
        collection=origin.physical,
        store=origin.store,
        copies=len(returns),
        behind=sum(one.behind for one in returns),
        until=until,
        warm=until is not None and until > datetime.now(UTC),
        stuck=next((one.stuck for one in returns if one.stuck is not None), None),
    )
