"""What the API answers with about collections, and where it comes from."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from adapters.bootstrap import Service
from adapters.http.asking import Caller
from adapters.http.documents import Reason
from adapters.http.idempotency import Once
from domain.model.errors import NotFound
from domain.ports import GenerationStatus
from domain.use_cases.names import physical_name
from domain.use_cases.repair import repair
from domain.use_cases.verify import compare, ready
from projections.collections import Collections


class GenerationDocument(BaseModel):
    """A physical collection that serves a collection."""

    generation: UUID
    collection: str = Field(description="Logical name.")
    store: str
    physical: str = Field(description="Name in the store.", examples=["mara_documents__g1"])
    number: int
    state: str = Field(description="live, dropped or released.")
    aliases: list[str] = Field(description="Aliases that point to it, as the ledger has it.")
    points: int = Field(description="Points that the ledger says it has.")
    recorded: int = Field(description="Last version of its stream.")
    applied: int = Field(description="Version up to which the store has it.")
    verified: int | None = Field(
        description="Version at which its store was last found to be as recorded; null if never."
    )
    verified_at: datetime | None = Field(description="When that was.")
    drift: dict[str, Any] | None = Field(
        description="What the last verification found to differ; null if nothing."
    )
    halted_at: int | None = Field(description="Version that the store refuses; null if none.")
    writes_held_by: list[str] = Field(description="Migrations that refuse live writes to it.")


class GenerationPage(BaseModel):
    """Some generations, in the order of their ids."""

    items: list[GenerationDocument]
    next: str | None = Field(description="`after` of the next page; null on the last one.")


class CollectionDocument(BaseModel):
    """A collection: as the ledger has it, and as the store has it."""

    name: str = Field(description="As it was asked for.")
    store: str
    physical: str = Field(description="What the name stands for in the store.")
    generations: list[GenerationDocument]
    in_the_store: bool
    points_in_the_store: int | None
    vectors: dict[str, Any] | None = Field(description="Of the collection in the store.")


class VerificationDocument(BaseModel):
    """What a comparison of a store with the ledger found."""

    physical: str
    equal: bool
    points: int = Field(description="That the store has.")
    recorded: int = Field(description="That the ledger says it has.")
    digest: str = Field(description="Of the store: SHA-256 over sorted (id, hash).")
    recorded_digest: str
    missing: int
    extra: int
    changed: int
    through: int = Field(description="Version of its stream that it was compared with.")
    position: int = Field(description="Of that event in the ledger.")
    meanwhile: int = Field(
        description="Points that appliers wrote while this went on; they are as recorded."
    )
    differences: list[str] = Field(
        validation_alias="schema", description="Of vectors and indexes, a sentence each."
    )
    examples: dict[str, list[int | str]] = Field(description="Ids of the first differences.")


class Repairing(Reason):
    """How a collection is to be repaired, and why."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "OPS-412"}})

    keep_extra: bool | None = Field(
        default=None,
        description="Whether points that the ledger does not have stay; by default they are "
        "deleted if the ledger made the collection.",
    )


class RepairDocument(BaseModel):
    """What was recorded to put a collection right; appliers carry it out."""

    physical: str
    points: int = Field(description="Recorded to be written or deleted.")
    kept: int = Field(description="Points that the ledger does not have, left where they are.")
    lacking: int = Field(description="Points that cannot be written: their bodies are gone.")
    cause: str = Field(description="Which bodies; empty if none.")
    differences: list[str] = Field(
        validation_alias="schema", description="Of vectors and indexes, that are put right."
    )
    through: int = Field(
        description="Version of the generation's stream with which the store is right: wait until "
        "it is applied, then verify."
    )


def _shown(status: GenerationStatus, view: dict[str, Any] | None) -> GenerationDocument:
    view = view or {}
    return GenerationDocument(
        generation=status.generation,
        collection=status.collection,
        store=status.store,
        physical=status.physical,
        number=status.number,
        state=view.get("state", "gone" if status.gone else "live"),
        aliases=view.get("aliases", []),
        points=status.points,
        recorded=status.recorded,
        applied=status.applied,
        verified=view.get("verified"),
        verified_at=view.get("verified_at"),
        drift=view.get("drift"),
        halted_at=status.halted_at,
        writes_held_by=list(status.holders),
    )


async def page_of_generations(service: Service, *, after: str, limit: int) -> GenerationPage:
    """The next generations after an id, with where they stand right now."""
    known = {str(status.generation): status for status in await service.applications.generations()}
    following = sorted(name for name in known if name > after)
    names = following[:limit]
    views = await _views(service, names)
    return GenerationPage(
        items=[_shown(known[name], views[name]) for name in names],
        next=names[-1] if len(following) > limit else None,
    )


async def _views(service: Service, names: list[str]) -> dict[str, dict[str, Any] | None]:
    return {name: await service.views.get(Collections.name, name) for name in names}


async def read_collection(service: Service, store: str, name: str) -> CollectionDocument:
    """A collection by its name in the store or an alias.

    Raises:
        NotFound: neither the ledger nor the store has it, or there is no such store.
    """
    physical = await physical_name(service.tools, store, name)
    known = await service.applications.generations(store=store, physical=physical)
    described = await service.stores.store(store).describe(physical)
    if described is None and not known:
        raise NotFound(f"neither the ledger nor store {store!r} has a collection {name!r}")
    views = await _views(service, [str(status.generation) for status in known])
    return CollectionDocument(
        name=name,
        store=store,
        physical=physical,
        generations=[_shown(status, views[str(status.generation)]) for status in known],
        in_the_store=described is not None,
        points_in_the_store=described.points if described else None,
        vectors=described.schema.to_json()["vectors"] if described else None,
    )


async def verify_named(service: Service, store: str, name: str) -> VerificationDocument:
    """Compare a collection, by its name in the store or an alias, with the ledger.

    Raises:
        NotFound: the ledger does not look after it.
        Conflict: the ledger cannot say yet what it should be.
    """
    physical = await physical_name(service.tools, store, name)
    found = await compare(service.tools, await ready(service.tools, store, physical))
    return VerificationDocument.model_validate(found.to_json())


async def repair_once(
    once: Once, caller: Caller, store: str, name: str, asked: Repairing
) -> RepairDocument:
    """Record what puts a collection right; sent again, it finds what is left to be done.

    Raises:
        NotFound: the ledger does not look after it.
        Conflict: it cannot be repaired as it stands.
        KeyReused: the key belongs to another request.
    """
    await once.claim()
    tools = once.service.tools
    status = await ready(tools, store, await physical_name(tools, store, name))
    context = caller.context(asked.reason)
    done = await repair(tools, status, context, keep_extra=asked.keep_extra)
    return RepairDocument.model_validate({"physical": status.physical, **vars(done)})
