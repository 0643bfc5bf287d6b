"""Commands that look at collections, compare them with the ledger, and search them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.bootstrap import DEFAULT, Service, open_service
from adapters.cli.command import At, Cli, Name, Reason, Store, Yes, console
from adapters.cli.tables import pairs, rows, say
from adapters.embedders.lsa import LsaModel
from domain.model.application import Application
from domain.model.errors import NotFound, Rejected
from domain.model.points import decode_payload, id_of
from domain.model.spec import nearest
from domain.ports import GenerationStatus, Ledger
from domain.use_cases.names import physical_name
from domain.use_cases.search_collections import search_collections
from domain.use_cases.search_versions import search_versions
from domain.use_cases.versions import Place, find_version

TEXT_SHOWN = 70
POSITIONS = ["state", "points", "recorded", "applied", "verified", "halted_at"]
"""What lists show of a generation."""


async def list_collections(
    cli: Cli,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that were dropped or released, too.")
    ] = False,
) -> None:
    """List the collections that the ledger looks after, and how far they are applied."""
    async with open_service(cli.settings) as service:
        shown = {
            d["generation"]: d for _, d in await service.views.find("collections", limit=10000)
        }
        known = await service.applications.generations()
    found = [_document(status, shown) for status in known if everything or not status.gone]
    if cli.json:
        for document in found:
            cli.emit(document)
    else:
        rows(cli.console, ["collection", "physical", *POSITIONS], found)


def _document(status: GenerationStatus, shown: dict[str, Any]) -> dict[str, Any]:
    view = shown.get(str(status.generation), {})
    return {
        "generation": str(status.generation),
        "collection": status.collection,
        "store": status.store,
        "physical": status.physical,
        "number": status.number,
        "state": view.get("state", "gone" if status.gone else "live"),
        "aliases": view.get("aliases", []),
        "points": status.points,
        "recorded": status.recorded,
        "applied": status.applied,
        "verified": view.get("verified"),
        "verified_at": view.get("verified_at"),
        "drift": view.get("drift"),
        "halted_at": status.halted_at,
        "writes_held_by": list(status.holders),
    }


async def show_collection(cli: Cli, name: Name, *, store: Store = DEFAULT) -> None:
    """Show a collection: as the ledger has it, and as the store has it."""
    async with open_service(cli.settings) as service:
        physical = await physical_name(service.tools, store, name)
        shown = {
            d["generation"]: d for _, d in await service.views.find("collections", limit=10000)
        }
        known = await service.applications.generations(store=store, physical=physical)
        described = await service.stores.store(store).describe(physical)
    if described is None and not known:
        raise NotFound(f"neither the ledger nor store {store!r} has a collection {name!r}")
    document: dict[str, Any] = {
        "name": name,
        "physical": physical,
        "generations": [{**_document(status, shown)} for status in known],
        "in_the_store": described is not None,
        "points_in_the_store": described.points if described else None,
        "schema": described.schema.to_json() if described else None,
    }
    if cli.json:
        cli.emit(document)
        return
    hidden = {"generations", "schema"}
    pairs(cli.console, {k: v for k, v in document.items() if k not in hidden})
    if described:
        vectors = {name or "(unnamed)": v.shape for name, v in described.schema.vectors.items()}
        pairs(cli.console, {"vectors": vectors, "indexes": sorted(described.schema.indexes)})
    rows(
        cli.console,
        ["number", *POSITIONS, "aliases", "writes_held_by"],
        document["generations"],
    )


async def search(
    cli: Cli,
    names: Annotated[
        str, typer.Argument(metavar="NAME", help="Collection; several with commas are merged.")
    ],
    text: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    source: Annotated[str, typer.Option(help="Only points of this source id.")] = "",
    source_field: Annotated[str, typer.Option(help="Payload field of it.")] = "source_id",
    embedder: Annotated[
        str, typer.Option(help="Embedding model, from [embedders] in the settings file.")
    ] = "",
    using: Annotated[str, typer.Option(help="Vector name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 5,
    at: At = None,
    store: Store = DEFAULT,
) -> None:
    """Search one collection, or several merged, by text; with --at, as they were then."""
    wanted = [name.strip() for name in names.split(",")]
    how: dict[str, Any] = {
        "using": using,
        "limit": limit,
        "match": {source_field: source} if source else None,
    }
    async with open_service(cli.settings) as service:
        vector = LsaModel.load(_model(service, embedder)).embed([text])[0].tolist()
        if at is None:
            hits = await search_collections(service.stores.store(store), wanted, vector, **how)
        else:
            places = [await find_version(service.tools, store, name, at) for name in wanted]
            hits = await search_versions(service.tools, places, vector, **how)
            await name_erased(service.ledger, places)
    found: list[dict[str, Any]] = [
        {
            "score": round(hit.score, 4),
            "collection": hit.collection,
            "id": id_of(hit.key),
            "payload": decode_payload(hit.payload),
        }
        for hit in hits
    ]
    for document in found:
        if cli.json:
            cli.emit(document)
        else:
            shown = " ".join(str(document["payload"].get("text", document["payload"])).split())
            cli.console.print(
                f"  {document['score']:.4f}  {document['collection']}  {document['id']}  "
                f"{shown[:TEXT_SHOWN]}",
            )


async def name_erased(ledger: Ledger, places: Sequence[Place]) -> None:
    """Say of how many points nobody knows any more whether they would have been found."""
    for place in places:
        erased = await ledger.count_erased(place.status.generation, place.through)
        if erased:
            console(soft_wrap=True).print(
                f"{erased:,} points of {place.status.physical!r} at that version are erased",
            )


def _model(service: Service, name: str) -> Path:
    known = service.settings.embedders
    if not known:
        raise NotFound(
            "no embedder is configured; name one in migration-ledger.toml: [embedders.NAME] with "
            'lsa = "FILE"'
        )
    if not name and len(known) == 1:
        name = next(iter(known))
    if not name:
        raise Rejected(f"several embedders are configured, say --embedder: {', '.join(known)}")
    if name not in known:
        raise NotFound(f"no embedder is named {name!r}{nearest(name, list(known))}")
    return Path(known[name])


async def list_dead_letters(cli: Cli) -> None:
    """List changes that a store refused, with their cause."""
    async with open_service(cli.settings) as service:
        halted = [s for s in await service.applications.generations() if s.halted_at is not None]
        found = [await _dead_letter(service, status) for status in halted]
    if cli.json:
        for document in found:
            cli.emit(document)
    elif found:
        rows(cli.console, ["physical", "change", "category", "cause"], found)
    else:
        cli.console.print("no dead letters")


async def _dead_letter(service: Service, status: GenerationStatus) -> dict[str, Any]:
    stream = Application.create_id(str(status.generation))
    application = await service.ledger.load(Application, stream)
    return {
        "physical": status.physical,
        "store": status.store,
        "change": status.halted_at,
        "category": application.category if application else None,
        "cause": application.cause if application else None,
    }


async def retry(
    cli: Cli, name: Name, *, store: Store = DEFAULT, reason: Reason = "", yes: Yes = False
) -> None:
    """Try the dead letter of a collection again."""
    await _decide(cli, name, store, reason, yes=yes, again=True)


async def skip(
    cli: Cli, name: Name, *, store: Store = DEFAULT, reason: Reason = "", yes: Yes = False
) -> None:
    """Give the dead letter of a collection up; the collection then differs by it."""
    await _decide(cli, name, store, reason, yes=yes, again=False)


async def _decide(cli: Cli, name: str, store: str, reason: str, *, yes: bool, again: bool) -> None:
    if not reason:
        raise Rejected("this needs --reason, which is recorded")
    async with open_service(cli.settings) as service:
        status = await _halted(service, store, name)
        question = "Try change {} of {} again?" if again else "Give change {} of {} up?"
        cli.confirm(question.format(status.halted_at, status.physical), yes=yes)
        applications = service.applications
        decide = applications.retry if again else applications.skip
        await decide(status.generation, cli.context(reason))
    done = "tried again" if again else "given up"
    document = {"physical": status.physical, "change": status.halted_at, "is": done}
    say(cli, document)


async def _halted(service: Service, store: str, name: str) -> GenerationStatus:
    physical = await physical_name(service.tools, store, name)
    known = await service.applications.generations(store=store, physical=physical)
    for status in reversed(known):
        if status.halted_at is not None:
            return status
    raise NotFound(f"collection {name!r} has no dead letter")
