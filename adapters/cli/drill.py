"""The drill: a ledger is brought back from its archive beside the one in use, and compared."""

import asyncio
import logging
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Annotated, Any

import typer

from adapters.archive.export import export
from adapters.archive.folder import ArchiveFolder
from adapters.archive.load import load
from adapters.archive.manifest import Lacking
from adapters.bootstrap import DEFAULT, Service, object_storage, open_service, with_endpoints
from adapters.cli.archive import name_lacking, named_after
from adapters.cli.command import FAILED, Cli
from adapters.cli.recover import ports_of, recovering
from adapters.cli.roles import COMPLAINTS, ROLES, work
from adapters.cli.tables import rows
from adapters.embedded import qdrant_node
from adapters.embedded.data_dir import choose_ports
from adapters.embedded.stack import SERVERS, start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.connection import open_database
from adapters.postgres.copying import has
from adapters.postgres.schema import upgrade
from adapters.settings import Settings, StoreConnection
from domain.model.errors import Rejected, Unavailable
from domain.model.recorded import Cursor
from domain.ports import EVENTS_TOPIC, Views
from domain.use_cases.recover import recover
from domain.use_cases.relay import CURSOR
from domain.use_cases.tools import given_up
from domain.use_cases.verify import verify
from domain.use_cases.versions import digest_at
from projections import PROJECTIONS

POLL_SECONDS = 0.05
STALL_SECONDS = 60.0
PAGE = 500

Archive = Annotated[
    Path | None,
    typer.Argument(metavar="[DIR]", help="Archive to bring back; by default a new one is made."),
]
Scratch = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="New folder for everything that is made; by default one for temporary files.",
    ),
]
Keep = Annotated[bool, typer.Option("--keep", help="Leave that folder there at the end.")]


@dataclass
class Report:
    """What a drill measured.

    Attributes:
        head: where the archive ends.
        lost: events of the ledger in use that the archive lacks.
        lost_seconds: from the archive's last event to the last event of the ledger in use.
        phases: seconds that each part took.
        collections: that were made, each with whether it equals the ledger in use; None where a
            store had refused to make it.
        views: read models, each with its documents, and whether they equal those in use; None where
            these have gone on.
        published: messages in the topic of all events.
        lacking: objects that the archive lacks.
    """

    head: Cursor
    lost: int = 0
    lost_seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    collections: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    published: int = 0
    lacking: tuple[Lacking, ...] = ()

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Measure a part."""
        began = time.perf_counter()
        yield
        self.phases[phase] = round(time.perf_counter() - began, 3)

    @property
    def recovery_seconds(self) -> float:
        """What bringing everything back took: all but making the archive and the comparison."""
        apart = {"export", "compare views", "compare collections"}
        return round(sum(took for name, took in self.phases.items() if name not in apart), 3)

    @property
    def equal(self) -> bool:
        """Whether what was brought back is what is in use."""
        return (
            not self.lacking
            and self.published >= self.head.position
            and all(one["equal"] is not False for one in (*self.collections, *self.views))
        )

    def to_json(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {
            "equal": self.equal,
            "head": f"{self.head.position}:{self.head.hash.hex()}",
            "rpo": {"events": self.lost, "seconds": self.lost_seconds},
            "rto": {"seconds": self.recovery_seconds},
            "phases": self.phases,
            "collections": self.collections,
            "views": self.views,
            "published": self.published,
            "lacking": [vars(one) for one in self.lacking],
        }


async def drill(
    cli: Cli, folder: Archive = None, *, scratch: Scratch = None, keep: Keep = False
) -> int:
    """Bring the ledger back from an archive in a folder of its own, compare, and say how long.

    Servers, views, topics and collections are made there. Of those in use nothing is changed.
    """
    # What ends it asks it to clean up first, as ctrl-C does.
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, signal.raise_signal, signal.SIGINT
    )
    async with open_service(cli.settings) as live:
        with named_after(scratch or Path(gettempdir())), _folder(scratch, keep=keep) as place:
            archive = ArchiveFolder(folder or place / "archive")
            report = Report(Cursor())
            if folder is None:
                with report.timed("export"):
                    await export(
                        live.database, object_storage(live.settings), archive, lambda *_: None
                    )
            await _refuse_other(live, archive)
            await _bring_back(cli, live, archive, place / "ledger", report)
    if cli.json:
        cli.emit(report.to_json())
    else:
        _show(cli, report)
        if keep:
            cli.console.print(f"everything is in {place}", soft_wrap=True)
    return 0 if report.equal else FAILED


@contextmanager
def _folder(scratch: Path | None, *, keep: bool) -> Iterator[Path]:
    """A new folder, which is removed afterwards.

    Raises:
        Rejected: the folder is there already.
    """
    if scratch is None:
        place = Path(mkdtemp(prefix="migration-ledger-drill-"))
    else:
        if scratch.exists():
            raise Rejected(f"{scratch} exists; name a folder that a drill can make and remove")
        scratch.mkdir(mode=0o700, parents=True)
        place = scratch.resolve()
    try:
        yield place
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


async def _refuse_other(live: Service, archive: ArchiveFolder) -> None:
    """What is not this ledger, or another history of it, cannot be compared with it."""
    manifest = archive.written()
    if manifest.ledger != live.identity:
        raise Rejected(
            f"{archive.path} is the archive of ledger {manifest.ledger}, and the ledger in use is "
            f"{live.identity}"
        )
    if not await has(live.database, manifest.head):
        raise Rejected(
            f"{archive.path} ends with event {manifest.head.position}, and the ledger in use has "
            "not got that event: it was set back to an older backup since. The archive has more, "
            "or another history; import it, or export to another folder"
        )


async def _bring_back(
    cli: Cli, live: Service, archive: ArchiveFolder, place: Path, report: Report
) -> None:
    names = sorted({status.store for status in await live.applications.generations()})
    async with AsyncExitStack() as stack:
        with report.timed("servers"):
            settings = await stack.enter_async_context(_servers(cli.settings, place, names))
        with report.timed("import"):
            async with open_database(with_endpoints(settings).database_url or "") as database:
                await upgrade(database)
                manifest = await load(database, object_storage(settings), archive)
        report.head, report.lacking = manifest.head, manifest.lacking
        await _measure_loss(live, report)
        service = await stack.enter_async_context(open_service(settings, recovering=True))
        with report.timed("views"):
            await _build_views(service)
        with report.timed("compare views"):
            report.views = [
                await _compare_view(live.views, service.views, p.name) for p in PROJECTIONS
            ]
        with report.timed("collections"):
            async with service.publisher() as publisher:
                await recover(
                    ports_of(service, publisher), recovering(), cli.context(), lambda _: None
                )
        with report.timed("topics"):
            report.published = await _publish(service)
        with report.timed("compare collections"):
            report.collections = [row async for row in _compare_collections(live, service)]


@asynccontextmanager
async def _servers(
    settings: Settings, place: Path, stores: Sequence[str]
) -> AsyncIterator[Settings]:
    """Embedded servers in a folder, with a node for each store.

    No connection of an application and no server of the settings is among those that it gives.
    """
    async with Supervisor(place) as supervisor:
        others = [name for name in stores if name != DEFAULT]
        nodes = {f"{qdrant_node.NAME}-{number}": name for number, name in enumerate(others)}
        try:
            await start_servers(supervisor, SERVERS)
            ports = choose_ports(place, nodes)
            yield Settings(
                data_dir=place,
                actor=settings.actor,
                stores={
                    name: StoreConnection(await qdrant_node.start(supervisor, ports[node], node))
                    for node, name in nodes.items()
                },
            )
        finally:
            await supervisor.stop([*nodes, *SERVERS])


async def _measure_loss(live: Service, report: Report) -> None:
    """What the ledger in use has that the archive lacks."""
    end = (await live.ledger.head()).position
    report.lost = end - report.head.position
    if report.lost:
        (first,) = await live.ledger.read(report.head.position - 1, 1)
        (last,) = await live.ledger.read(end - 1, 1)
        report.lost_seconds = round((last.recorded_at - first.recorded_at).total_seconds(), 3)


async def _build_views(service: Service) -> None:
    """Run the projector until every read model has all events."""
    end = (await service.ledger.head()).position

    async def built() -> int:
        return min([(await service.views.cursor(p.name)).position for p in PROJECTIONS])

    async with _working(service, "projector"):
        await _reach(built, end, "the read models")


async def _publish(service: Service) -> int:
    """Run the relay until every event is published; returns how many messages there are.

    An applier makes collections whose changes no receipt covers yet.
    """
    end = (await service.ledger.head()).position

    async def published() -> int:
        return (await service.cursors.get(CURSOR)).position

    async def behind() -> int:
        return -sum(one.recorded - one.applied for one in await service.applications.lagging())

    async with _working(service, "relay"):
        await _reach(published, end, "the topics")
        if await behind():
            async with _working(service, "applier"):
                await _reach(behind, 0, "the collections")
    async with service.publisher() as publisher:
        ends = await publisher.end_offsets()
    return sum(count for (topic, _), count in ends.items() if topic == EVENTS_TOPIC)


async def _reach(measure: Callable[[], Awaitable[int]], end: int, what: str) -> None:
    """Wait until a number has grown to an end.

    Raises:
        Unavailable: it does not grow any more.
    """
    reached, since = await measure(), time.monotonic()
    while reached < end:
        await asyncio.sleep(POLL_SECONDS)
        before, reached = reached, await measure()
        if reached > before:
            since = time.monotonic()
        if time.monotonic() - since > STALL_SECONDS:
            said = [reason for role in ROLES if (reason := COMPLAINTS.of(role))]
            raise Unavailable(
                f"{what} of the drill did not grow for {STALL_SECONDS:g} s: "
                f"{'; '.join(said) or 'no worker says why'}"
            )


@asynccontextmanager
async def _working(service: Service, *roles: str) -> AsyncIterator[None]:
    """Workers of these roles. None of them has to do with other servers than those of the drill."""
    stop = asyncio.Event()
    logging.getLogger("migration_ledger").addHandler(COMPLAINTS)
    async with asyncio.TaskGroup() as group:
        group.create_task(work(service, roles, stop))
        try:
            yield
        finally:
            stop.set()


async def _compare_view(live: Views, there: Views, name: str) -> dict[str, Any]:
    """Compare the documents of a read model, if the one in use is as far."""
    at = await there.cursor(name)
    comparable = await live.cursor(name) == at
    count, equal, after = 0, True, ""
    while page := await there.find(name, after=after, limit=PAGE):
        count += len(page)
        if comparable:
            equal = equal and page == await live.find(name, after=after, limit=PAGE)
        after = page[-1][0]
    if comparable and await live.find(name, after=after, limit=1):
        equal = False
    comparable = comparable and await live.cursor(name) == at
    return {"view": name, "documents": count, "equal": equal if comparable else None}


async def _compare_collections(live: Service, there: Service) -> AsyncIterator[dict[str, Any]]:
    """Compare each collection that was made with the ledger that is in use, bit for bit."""
    for status in await there.applications.generations():
        if status.gone:
            continue
        recorded = await digest_at(live.ledger, status.generation, status.recorded)
        equal: bool | None = None
        # A change that a store refused has made nothing there, and makes nothing here.
        if not (await given_up(there.ledger, status.generation) or status.halted_at == 1):
            found = await verify(there.tools, status.store, status.physical)
            equal = found.equal and found.digest == recorded.hexdigest()
        yield {
            "collection": status.physical,
            "store": status.store,
            "points": recorded.points,
            "digest": recorded.hexdigest(),
            "equal": equal,
        }


def _show(cli: Cli, report: Report) -> None:
    say = cli.console.print
    if report.collections:
        rows(cli.console, ["collection", "store", "points", "equal"], report.collections)
    rows(cli.console, ["view", "documents", "equal"], report.views)
    say(f"{report.published:,} messages published for {report.head.position:,} events")
    say(", ".join(f"{name} {took:.1f} s" for name, took in report.phases.items()), soft_wrap=True)
    if report.lacking:
        say(f"the archive lacks {len(report.lacking)} objects:", style="red")
        name_lacking(cli, report.lacking)
    lost = f"{report.lost:,} events, {report.lost_seconds:,.1f} s" if report.lost else "nothing"
    say(f"RPO: {lost} of what is recorded would be lost")
    say(f"RTO: {report.recovery_seconds:.1f} s to bring everything back")
    if report.equal:
        say("equal")
    else:
        say("not equal: see above", style="red")
