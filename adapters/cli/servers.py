"""Commands that run things: the whole stack, workers, schema upgrades; and the doctor."""

import asyncio
import logging
import signal
from typing import Annotated, Any

import typer

from adapters.bootstrap import DEFAULT, Service, open_service, with_endpoints
from adapters.cli.command import FAILED, UNREACHABLE, Cli
from adapters.cli.roles import ROLES, chosen_roles, run_roles
from adapters.cli.stack import running_stack
from adapters.cli.tables import rows
from adapters.embedded import broker
from adapters.logs import log_to
from adapters.postgres.connection import open_database
from adapters.postgres.schema import pending_sql, upgrade
from adapters.settings import Settings
from domain.model.errors import LedgerError, Unavailable

CHECK_SECONDS = 5.0

ALL_ROLES = ",".join(ROLES)

RolesOption = Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(ROLES)}.")]


async def up(cli: Cli) -> None:
    """Run the servers that are not configured, all workers and the HTTP API, until ctrl-C."""
    log_to(None, logging.INFO)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_stack(cli.settings) as stack:
        found = {**await examine(cli.settings), "api": {"url": stack.api}}
        if cli.json:
            cli.emit(found)
        else:
            show_examination(cli, found)
            cli.console.print(f"API:  {stack.api}/docs", markup=False)
            cli.console.print(f"logs: {cli.settings.data_dir / 'logs'}", markup=False)
            cli.console.print("ready; ctrl-C stops it")
        await stop.wait()


async def doctor(cli: Cli) -> int:
    """Say what can be reached, in which version, and who works and how far behind they are."""
    found = await examine(cli.settings)
    if cli.json:
        cli.emit(found)
    else:
        show_examination(cli, found)
    reachable = all(found[name]["reachable"] for name in ("database", "kafka", "qdrant", "objects"))
    if not reachable:
        return UNREACHABLE
    return 0 if all(role["workers"] for role in found["roles"].values()) else FAILED


async def examine(settings: Settings) -> dict[str, Any]:
    """The state of every dependency and role, as `doctor --json` gives it."""
    found: dict[str, Any] = {}
    embedded = settings.embedded
    try:
        async with open_service(settings) as service:
            settings = service.settings
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


def _shown(name: str, url: str | None) -> str:
    """A URL for people: `doctor --json` gives the password of an embedded database, this not."""
    return _without_password(url) if url and name == "database" else url or "-"


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


async def _kafka_version(service: Service) -> str | None:
    """The embedded broker's version; the protocol does not tell that of another."""
    async with service.publisher() as publisher:
        await publisher.end_offsets()
    return await broker.version() if "kafka" in service.embedded else None


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
            "version": found[name].get("error") or found[name]["version"],
            "url": _shown(name, found[name]["url"]),
        }
        for name in ("database", "kafka", "qdrant", "objects")
    ]
    rows(cli.console, ["server", "reachable", "embedded", "version", "url"], servers)
    roles = [
        {"role": role, "workers": len(state["workers"]), "lag": state["lag"]}
        for role, state in found["roles"].items()
    ]
    rows(cli.console, ["role", "workers", "lag"], roles)


async def worker(cli: Cli, *, roles: RolesOption = ALL_ROLES) -> None:
    """Run worker roles in this process until SIGTERM, which lets them finish what is under way."""
    chosen = chosen_roles(roles)
    log_to(None, logging.INFO)
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
