"""The embedded servers, all workers and the HTTP API, as children of one process."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adapters.bootstrap import open_service, with_endpoints
from adapters.cli.roles import ROLES
from adapters.embedded.data_dir import choose_ports
from adapters.embedded.endpoints import ROLES as SERVER_NAMES
from adapters.embedded.process import ProcessSpec
from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.connection import open_database
from adapters.postgres.schema import upgrade
from adapters.settings import Settings, environment_of
from domain.model.errors import Unavailable

API = "api"
WORKER_STOP_SECONDS = 20.0
"""With the 8 that servers get afterwards, everything ends within 30 seconds."""
READY_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Stack:
    """What runs.

    Attributes:
        settings: with the URLs of all servers.
        supervisor: keeps everything running.
        api: URL of the HTTP API.
    """

    settings: Settings
    supervisor: Supervisor
    api: str


@asynccontextmanager
async def running_stack(settings: Settings) -> AsyncIterator[Stack]:
    """Start the servers that are not configured, upgrade the schema, start all workers.

    Raises:
        Unavailable: something did not start.
        Rejected: another stack runs in this data directory.
    """
    async with Supervisor(settings.data_dir) as supervisor:
        names = {SERVER_NAMES[role] for role in settings.embedded}
        try:
            if names:
                await start_servers(supervisor, names)
            known = with_endpoints(settings)
            async with open_database(known.database_url or "") as database:
                await upgrade(database)
            where = ("--data-dir", str(settings.data_dir))
            # The settings as they came, so that what is embedded is found in the data directory.
            environment = environment_of(settings)
            for role in ROLES:
                arguments = ("adapters.cli", "worker", "--roles", role, *where)
                await _start(supervisor, f"worker-{role}", arguments, environment)
            port = settings.http_port or choose_ports(settings.data_dir, [API])[API]
            serving = ("adapters.http", "--port", str(port), *where)
            await _start(supervisor, API, serving, environment)
            await _until_alive(known, supervisor)
            yield Stack(known, supervisor, f"http://{settings.http_host}:{port}")
        finally:
            await supervisor.stop([*(f"worker-{role}" for role in ROLES), API])
            await supervisor.stop(names)


async def _start(
    supervisor: Supervisor, name: str, module: tuple[str, ...], environment: Mapping[str, str]
) -> None:
    await supervisor.start(
        ProcessSpec(
            name=name,
            argv=(sys.executable, "-m", *module),
            log_path=supervisor.log_path(name),
            env=environment,
            stop_timeout=WORKER_STOP_SECONDS,
        )
    )


async def _until_alive(settings: Settings, supervisor: Supervisor) -> None:
    """Wait until a worker of each role has given a sign of life."""
    try:
        async with asyncio.timeout(READY_SECONDS), open_service(settings) as service:
            while {beat.role for beat in await service.workers.alive()} < ROLES.keys():
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise Unavailable(
            f"workers did not come to life within {READY_SECONDS:g} s; "
            f"their logs are in {supervisor.data_dir / 'logs'}"
        ) from error
