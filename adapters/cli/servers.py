"""Commands that run things: the whole stack, workers, schema upgrades; and the doctor."""

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from adapters.bootstrap import Service, open_service, with_endpoints
from adapters.cli.command import FAILED, UNREACHABLE, Cli
from adapters.cli.roles import ROLES, chosen_roles, run_roles
from adapters.cli.stack import running_stack
from adapters.cli.tables import rows
from adapters.dependencies import (
    CHECK_SECONDS,
    DEPENDENCIES,
    Checked,
    check_connections,
    check_dependencies,
    check_stores,
)
from adapters.logs import log_to
from adapters.postgres.connection import open_database
from adapters.postgres.schema import pending_sql, upgrade
from adapters.settings import Settings
from domain.model.errors import LedgerError, Unavailable
from domain.use_cases.concurrently import concurrently, told_to
from domain.use_cases.erase import unfinished

ALL_ROLES = ",".join(ROLES)

CheckOption = Annotated[
    bool,
    typer.Option(
        "--check", help="Run nothing; say whether workers of these roles live on this host."
    ),
]
RolesOption = Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(ROLES)}.")]


async def up(cli: Cli) -> None:
    """Run the servers that are not configured, all workers and the HTTP API, until ctrl-C."""
    log_to(None, logging.INFO)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(_up(cli))
        await told_to(stop, running)
        # Also while something starts: the stack stops its children, however far it has come.
        running.cancel()


async def _up(cli: Cli) -> None:
    async with running_stack(cli.settings) as stack:
        found = {**await examine(cli.settings), "api": {"url": stack.api}}
        if cli.json:
            cli.emit(found)
        else:
            show_examination(cli, found)
            cli.console.print(f"API:  {stack.api}/docs")
            cli.console.print(f"logs: {cli.settings.data_dir / 'logs'}")
            cli.console.print("ready; ctrl-C stops it")
        await asyncio.Event().wait()


async def doctor(cli: Cli) -> int:
    """Say what can be reached, in which version, and who works and how far behind they are."""
    found = await examine(cli.settings)
    if cli.json:
        cli.emit(found)
    else:
        show_examination(cli, found)
    states = [found[name] for name in DEPENDENCIES]
    states += [*found["stores"].values(), *found["connections"].values()]
    if not all(state["reachable"] for state in states):
        return UNREACHABLE
    if found["timeline"]["halted"] or found["unfinished_erasures"] or found["halted"]:
        return FAILED
    return 0 if all(role["workers"] for role in found["roles"].values()) else FAILED


async def examine(settings: Settings) -> dict[str, Any]:
    """The state of every dependency and role, as `doctor --json` gives it."""
    checked, stores, connections = await concurrently(
        check(settings) for check in (check_dependencies, check_stores, check_connections)
    )
    found: dict[str, Any] = {one.name: _state(one) for one in checked}
    found.setdefault("schema", _state(Checked("schema", None, "the database does not answer")))
    found |= {
        "stores": {one.name: _state(one) for one in stores},
        "connections": {one.name: _state(one) for one in connections},
        "timeline": {"ledger": None, "number": None, "halted": None},
        "roles": {role: {"workers": [], "lag": None} for role in ROLES},
        "halted": [],
        "unfinished_erasures": [],
    }
    if found["schema"]["reachable"]:
        with suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS), open_service(settings) as service:
                found["timeline"] = await _timeline(service)
                found["roles"] = await _roles(service)
                found["halted"] = [
                    {"physical": status.physical, "store": status.store, "at": status.halted_at}
                    for status in await service.applications.generations()
                    if status.halted_at is not None
                ]
                found["unfinished_erasures"] = [
                    erasure.number for erasure in await unfinished(service.tools)
                ]
    for name, (url, embedded) in _addresses(settings).items():
        found[name] = {"url": url, "embedded": embedded, **found[name]}
    return found


def _state(checked: Checked) -> dict[str, Any]:
    state = {"reachable": checked.failure is None, "version": checked.version}
    return state if checked.failure is None else {**state, "error": checked.failure}


def _addresses(settings: Settings) -> dict[str, tuple[str | None, bool]]:
    """Where the servers of the service are, as far as that is known, and whether embedded."""
    embedded = settings.embedded
    with suppress(Unavailable):
        settings = with_endpoints(settings)
    database = settings.database_url
    if database and "database" not in embedded:
        database = _without_password(database)
    return {
        "database": (database, "database" in embedded),
        "kafka": (settings.kafka_bootstrap, "kafka" in embedded),
        "qdrant": (settings.qdrant_url, "qdrant" in embedded),
        "objects": (settings.storage_url, settings.objects_url is None),
    }


def _shown(name: str, url: str | None) -> str:
    """A URL for people: `doctor --json` gives the password of an embedded database, this not."""
    return _without_password(url) if url and name == "database" else url or "-"


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}://{user.split(':')[0]}{at}{host}"


async def _timeline(service: Service) -> dict[str, Any]:
    standing = await service.ledger.standing()
    halted = None
    if standing.halt is not None:
        findings = [finding.to_json() for finding in standing.halt.findings]
        halted = {"since": standing.halt.since, "findings": findings}
    return {"ledger": standing.ledger, "number": standing.timeline, "halted": halted}


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
                {
                    "name": w.worker,
                    "pid": w.pid,
                    "host": w.host,
                    "seconds_ago": w.seconds_ago,
                    "waits": w.detail.get("waits"),
                }
                for w in workers
                if w.role == role
            ],
            "lag": lag,
        }
        for role, lag in behind.items()
    }


def show_examination(cli: Cli, found: dict[str, Any]) -> None:
    """What `doctor` found, for people."""
    states = {name: found[name] for name in DEPENDENCIES}
    states |= {f"store {name}": state for name, state in found["stores"].items()}
    states |= {f"connection {name}": state for name, state in found["connections"].items()}
    servers = [
        {
            "server": name,
            "reachable": state["reachable"],
            "embedded": state.get("embedded"),
            "version": state.get("error") or state["version"],
            "url": _shown(name, state.get("url")),
        }
        for name, state in states.items()
    ]
    rows(cli.console, ["server", "reachable", "embedded", "version", "url"], servers)
    roles = [
        {"role": role, "workers": len(state["workers"]), "lag": state["lag"]}
        for role, state in found["roles"].items()
    ]
    rows(cli.console, ["role", "workers", "lag"], roles)
    if halted := found["timeline"]["halted"]:
        _show_halted(cli, halted)
    for role, state in found["roles"].items():
        for reason in dict.fromkeys(one["waits"] for one in state["workers"] if one["waits"]):
            cli.console.print(f"{role} waits: {reason}", soft_wrap=True)
    for number in found["unfinished_erasures"]:
        cli.console.print(f"erasure {number} is not finished; run `erase`")
    for halted in found["halted"]:
        cli.console.print(
            f"{halted['physical']} halts at change {halted['at']}; see `dead-letter list`",
            soft_wrap=True,
        )


def _show_halted(cli: Cli, halted: dict[str, Any]) -> None:
    cli.console.print("halted", style="red", end=" ")
    cli.console.print(f"since {halted['since']:%Y-%m-%d %H:%M:%S} UTC:")
    for finding in halted["findings"]:
        cli.console.print(f"  {finding['says']}", soft_wrap=True)
    cli.console.print("  run `migration-ledger recover`")


async def worker(cli: Cli, *, roles: RolesOption = ALL_ROLES, check: CheckOption = False) -> int:
    """Run worker roles in this process until SIGTERM, which lets them finish what is under way."""
    chosen = chosen_roles(roles)
    if check:
        return await _check_workers(cli, chosen)
    log_to(None, logging.INFO)
    await run_roles(cli.settings, chosen)
    return 0


async def _check_workers(cli: Cli, roles: Sequence[str]) -> int:
    host = socket.gethostname()
    try:
        async with asyncio.timeout(CHECK_SECONDS), open_service(cli.settings) as service:
            here = {beat.role for beat in await service.workers.alive() if beat.host == host}
    except TimeoutError as error:
        raise Unavailable(f"the database does not answer within {CHECK_SECONDS:g} s") from error
    silent = [role for role in roles if role not in here]
    if cli.json:
        cli.emit({"host": host, "silent": silent})
    elif silent:
        cli.console.print(f"no sign of life on {host} from: {', '.join(silent)}")
    return FAILED if silent else 0


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
