"""Commands that run things: the whole stack, workers, schema upgrades; and the doctor."""

import asyncio
import logging
import signal
import sys
from typing import Annotated, Any

import typer

from adapters.bootstrap import DEFAULT, Service, open_service, with_endpoints
from adapters.cli.command import FAILED, UNREACHABLE, Cli
from adapters.cli.roles import ROLES, chosen_roles, run_roles
from adapters.cli.tables import rows
from adapters.logs import log_to_stderr
from adapters.embedded.endpoints import ROLES as SERVER_NAMES
from adapters.embedded.process import ProcessSpec
from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.connection import open_database
from adapters.postgres.schema import pending_sql, upgrade
from adapters.settings import Settings
from domain.model.errors import LedgerError, Unavailable

CHECK_SECONDS = 5.0
WORKER_STOP_SECONDS = 20.0
READY_SECONDS = 60.0

RolesOption = Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(ROLES)}.")]


class Stack:
    """The embedded servers and all workers, as children of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.supervisor = Supervisor(settings.data_dir)

    async def __aenter__(self) -> "Stack":
        """Start the servers, bring the schema up to date, and start the workers.

        Raises:
            Unavailable: something did not start.
            Rejected: another stack runs in this data directory.
        """
        await self.supervisor.__aenter__()
        try:
            names = {SERVER_NAMES[role] for role in self.settings.embedded}
            if names:
                await start_servers(self.supervisor, names)
            self.settings = with_endpoints(self.settings)
            async with open_database(self.settings.database_url or "") as database:
                await upgrade(database)
            async with asyncio.TaskGroup() as group:
                for role in ROLES:
                    group.create_task(self.start_worker(role))
                group.create_task(self._start_api())
        except BaseException:
            await self.supervisor.__aexit__(*sys.exc_info())
            raise
        return self

    async def __aexit__(self, *failure: Any) -> None:
        """Stop the workers, then the servers."""
        await self.supervisor.__aexit__(*failure)

    async def start_worker(self, role: str) -> None:
        """Start one worker process; it is started again when it dies."""
        await self._start(
            f"worker-{role}", "adapters.cli", "worker", "--roles", role, *self._where()
        )

    async def _start_api(self) -> None:
        await self._start("api", "adapters.http", *self._where())

    async def _start(self, name: str, module: str, *arguments: str) -> None:
        await self.supervisor.start(
            ProcessSpec(
                name=name,
                argv=(sys.executable, "-m", module, *arguments),
                log_path=self.supervisor.log_path(name),
                stop_timeout=WORKER_STOP_SECONDS,
            )
        )

    def _where(self) -> tuple[str, str]:
        return "--data-dir", str(self.settings.data_dir)


async def up(cli: Cli) -> None:
    """Run the servers that are not configured, all workers and the HTTP API, until ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Stack(cli.settings) as stack:
        found = await examine(stack.settings, embedded=cli.settings.embedded)
        if cli.json:
            cli.emit(found)
        else:
            show_examination(cli, found)
            cli.console.print(f"logs: {cli.settings.data_dir / 'logs'}", markup=False)
            cli.console.print("ready; ctrl-C stops it")
        await stop.wait()


async def doctor(cli: Cli) -> int:
    """Say what can be reached, in which version, and who works and how far behind they are."""
    found = await examine(cli.settings, embedded=cli.settings.embedded)
    if cli.json:
        cli.emit(found)
    else:
        show_examination(cli, found)
    reachable = all(found[name]["reachable"] for name in ("database", "kafka", "qdrant", "objects"))
    if not reachable:
        return UNREACHABLE
    return 0 if all(role["workers"] for role in found["roles"].values()) else FAILED


async def examine(settings: Settings, *, embedded: frozenset[str]) -> dict[str, Any]:
    """The state of every dependency and role, as `doctor --json` gives it."""
    found: dict[str, Any] = {}
    try:
        settings = with_endpoints(settings)
        async with open_service(settings) as service:
            found["database"] = await _checked(_database_version(service))
            found["kafka"] = await _checked(_kafka_version(service))
            found["qdrant"] = await _checked(service.stores.store(DEFAULT).version())
            found["objects"] = await _checked(_objects_version(service))
            found["roles"] = await _roles(service)
    except LedgerError as error:
        for name in ("database", "kafka", "qdrant", "objects"):
            found.setdefault(name, {"reachable": False, "version": None, "error": str(error)})
        found.setdefault("roles", {role: {"workers": [], "lag": None} for role in ROLES})
    urls = {
        "database": settings.database_url,
        "kafka": settings.kafka_bootstrap,
        "qdrant": settings.qdrant_url,
        "objects": settings.objects_url or (settings.data_dir / "objects").as_uri(),
    }
    for name, url in urls.items():
        is_embedded = name in embedded or (name == "objects" and settings.objects_url is None)
        found[name] = {"url": url, "embedded": is_embedded, **found[name]}
        if not is_embedded and name == "database" and url:
            found[name]["url"] = _without_password(url)
    return found


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}://{user.split(':')[0]}{at}{host}"


async def _checked(version: Any) -> dict[str, Any]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return {"reachable": True, "version": await version}
    except TimeoutError:
        error = f"no answer within {CHECK_SECONDS:g} s"
    except LedgerError as failed:
        error = str(failed)
    return {"reachable": False, "version": None, "error": error}


async def _database_version(service: Service) -> str:
    async with service.database.connection() as connection:
        return str(await connection.fetchval("SHOW server_version"))


async def _kafka_version(service: Service) -> str:
    async with service.publisher() as publisher:
        offsets = await publisher.end_offsets()
    topics = sorted({topic for topic, _ in offsets})
    return f"{len(topics)} topics, {len(offsets)} partitions"


async def _objects_version(service: Service) -> str:
    address = await service.objects.put(b"doctor")
    await service.objects.get(address)
    return "writable"


async def _roles(service: Service) -> dict[str, Any]:
    head = (await service.ledger.head()).position
    behind = {
        "relay": head - (await service.cursors.get("relay")).position,
        "projector": head - (await service.views.cursor("operations")).position,
        "applier": sum(s.recorded - s.applied for s in await service.applications.lagging()),
        "flow": await service.ranges.remaining(),
        "coordinator": len(await service.views.find("migrations", match={"state": "running"})),
    }
    workers = await service.workers.alive()
    return {
        role: {
            "workers": [
                {"name": w.worker, "pid": w.pid, "host": w.host, "seconds_ago": w.seconds_ago}
                for w in workers
                if w.role == role
            ],
            "lag": lag,
        }
        for role, lag in behind.items()
    }


def show_examination(cli: Cli, found: dict[str, Any]) -> None:
    """What `doctor` found, for people."""
    servers = [
        {
            "server": name,
            "reachable": found[name]["reachable"],
            "embedded": found[name]["embedded"],
            "version": found[name]["version"] or found[name].get("error"),
            "url": _without_password(found[name]["url"] or "-"),
        }
        for name in ("database", "kafka", "qdrant", "objects")
    ]
    rows(cli.console, ["server", "reachable", "embedded", "version", "url"], servers)
    roles = [
        {"role": role, "workers": len(state["workers"]), "lag": state["lag"]}
        for role, state in found["roles"].items()
    ]
    rows(cli.console, ["role", "workers", "lag"], roles)


async def worker(cli: Cli, *, roles: RolesOption = ",".join(ROLES)) -> None:
    """Run worker roles in this process until SIGTERM, which lets them finish what is under way."""
    chosen = chosen_roles(roles)
    log_to_stderr()
    while True:
        try:
            async with open_service(cli.settings) as service:
                await run_roles(service, chosen)
                return
        except Unavailable as error:
            logging.getLogger("migration_ledger.worker").warning(
                "waiting_for_database", extra={"error": str(error)}
            )
            await asyncio.sleep(1.0)


async def db_upgrade(
    cli: Cli,
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the statements.")] = False,
) -> None:
    """Bring the ledger's database schema up to date; safe to run from several places at once."""
    settings = with_endpoints(cli.settings)
    async with open_database(settings.database_url or "") as database:
        if sql:
            cli.console.out(await pending_sql(database), highlight=False)
            return
        done = [migration.name for migration in await upgrade(database)]
    if cli.json:
        cli.emit({"applied": done})
    else:
        cli.console.print(f"applied: {', '.join(done) or 'nothing; the schema is current'}")
