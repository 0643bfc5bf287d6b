"""Migrations for the API: from their read model, or from their events while that is behind."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from adapters.bootstrap import Service
from adapters.http.documents import (
    MigrationDocument,
    MigrationPage,
    OldSideDocument,
    Operation,
    OperationPage,
    PlanDocument,
)
from domain.model.errors import NotFound
from domain.model.migration import Migration, State
from domain.use_cases.old_sides import old_sides
from domain.use_cases.plan_migration import Planned
from domain.use_cases.progress import progress
from projections.migrations import Document, Migrations
from projections.operations import Operations

COUNTED_ELSEWHERE = ("captured", "routed", "applied", "unplaced")
"""Counts that come from other streams than the migration's own."""


def shown(document: Document) -> MigrationDocument:
    """A document of the read model with its progress."""
    with_progress = {**document, "progress": progress(document, datetime.now(UTC))}
    return MigrationDocument.model_validate(with_progress)


def shown_plan(planned: Planned) -> PlanDocument:
    """A plan with the migration that has it, if it is recorded."""
    migration = planned.migration
    return PlanDocument(
        id=migration.id if planned.recorded else None,
        name=migration.name,
        recipe=migration.recipe,
        attempt=migration.attempt,
        state=migration.state if planned.recorded else None,
        plan_hash=planned.plan.hash,
        **planned.plan.to_json(),
    )


async def read_migration(service: Service, stream: UUID) -> MigrationDocument:
    """A migration with everything that is recorded about it now.

    While the projector has not come to the migration's last event, its own events are applied
    here, so that a client reads what it wrote.

    Raises:
        NotFound: there is no such migration.
    """
    projection = Migrations()
    cursor = await service.views.cursor(projection.name)
    events = await service.ledger.events(stream)
    if not events or events[0].topic != Migration.Created.TOPIC:
        raise NotFound(f"there is no migration {stream}")
    found = await service.views.get(projection.name, str(stream))
    if found is not None and cursor.position >= events[-1].position:
        return shown(found)
    document: Document | None = None
    for recorded in events:
        document = projection.apply(document, recorded)
    counts = {name: found[name] for name in COUNTED_ELSEWHERE} if found else {}
    return shown({**(document or {}), **counts})


async def read_old_sides(service: Service, stream: UUID) -> list[OldSideDocument]:
    """The collections that a migration keeps up to date, from what is recorded now.

    Raises:
        NotFound: there is no such migration.
    """
    migration = await service.ledger.load(Migration, stream)
    if migration is None:
        raise NotFound(f"there is no migration {stream}")
    return [
        OldSideDocument.model_validate(asdict(side))
        for side in await old_sides(service.tools, migration)
    ]


async def page_of_migrations(
    service: Service, *, after: str, limit: int, state: State | None
) -> MigrationPage:
    """The next migrations after an id."""
    match = {"state": state.value} if state else None
    found = await service.views.find(Migrations.name, after=after, limit=limit + 1, match=match)
    return MigrationPage(
        items=[shown(document) for _, document in found[:limit]],
        next=found[limit - 1][0] if len(found) > limit else None,
    )


async def page_of_operations(
    service: Service, migration: UUID, *, after: int, limit: int
) -> OperationPage:
    """The next operations of a migration, its own and those of its flows and appliers.

    Raises:
        NotFound: there is no such migration.
    """
    if await service.ledger.load(Migration, migration) is None:
        raise NotFound(f"there is no migration {migration}")
    through = (await service.views.cursor(Operations.name)).position
    found: dict[str, dict[str, Any]] = {}
    for match in ({"stream": str(migration)}, {"migration": str(migration)}):
        found |= dict(
            await service.views.find(
                Operations.name, after=f"{after:019d}", limit=limit + 1, match=match
            )
        )
    operations = [Operation.model_validate(found[key]) for key in sorted(found)[: limit + 1]]
    more = len(operations) > limit
    return OperationPage(
        items=operations[:limit],
        next=operations[limit - 1].position if more else None,
        through=through,
    )
