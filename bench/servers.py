"""What benches measure: the servers and workers that `up` runs, in a folder of their own."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.bootstrap import Service, open_service
from adapters.cli.roles import ROLES
from adapters.embedded import qdrant_node
from adapters.embedded.data_dir import choose_ports
from adapters.embedded.endpoints import ROLES as SERVER_NAMES
from adapters.embedded.probes import answers_http2
from adapters.embedded.process import ProcessSpec
from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.settings import PREFIX, load_settings

STOP_SECONDS = 20.0
URLS = {"database": "database_url", "kafka": "kafka_bootstrap", "qdrant": "qdrant_url"}


@dataclass(frozen=True)
class Running:
    """What runs.

    Attributes:
        supervisor: of all processes.
        service: the bench's own connections.
        environment: of the workers.
        samples: folder for what `bench.sampled` finds out about the processes, or None.
    """

    supervisor: Supervisor
    service: Service
    environment: Mapping[str, str]
    samples: Path | None = None

    @property
    def qdrant_url(self) -> str:
        """The vector store's gRPC endpoint."""
        return self.service.settings.qdrant_url or ""

    @property
    def database_url(self) -> str:
        """The ledger's database."""
        return self.service.settings.database_url or ""

    async def start_worker(self, role: str, number: int = 1) -> str:
        """Start a worker process; returns its name."""
        name = worker_name(role, number)
        await self.supervisor.start(
            ProcessSpec(
                name=name,
                argv=(
                    *_module("adapters.cli", name, self.samples),
                    *("worker", "--roles", role),
                ),
                log_path=self.supervisor.log_path(name),
                env=self.environment,
                stop_timeout=STOP_SECONDS,
            )
        )
        return name

    def processes(self) -> dict[str, int]:
        """Process ids of servers and first workers, by name."""
        names = {
            **{name: name for name in SERVER_NAMES.values()},
            **{role: worker_name(role, 1) for role in ROLES},
        }
        found = {short: self.supervisor.pid(name) for short, name in names.items()}
        return {short: pid for short, pid in found.items() if pid is not None}


@asynccontextmanager
async def running(
    configured: Mapping[str, str] | None = None,
    workers: Mapping[str, int] | None = None,
    samples: Path | None = None,
) -> AsyncIterator[Running]:
    """Servers and workers in a temporary folder, until the block ends.

    Args:
        configured: settings of servers that are not to be embedded.
        workers: processes by role; one of each if not said.
        samples: where each process is to leave samples of what it was at; None to take none.
    """
    workers = dict.fromkeys(ROLES, 1) if workers is None else workers
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with Supervisor(Path(folder)) as supervisor:
            given = {"data_dir": folder, **(configured or {})}
            if samples is not None:
                given["qdrant_url"] = await _sampled_node(supervisor, samples)
            given["embed"] = ",".join(name for name, key in URLS.items() if key not in given)
            settings = load_settings(given, {}, Path(folder))
            inherited = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
            environment = inherited | {PREFIX + key.upper(): v for key, v in given.items()}
            await start_servers(supervisor, {SERVER_NAMES[name] for name in settings.embedded})
            async with open_service(settings, create=True) as service:
                found = Running(supervisor, service, environment, samples)
                names = [
                    await found.start_worker(role, number)
                    for role, count in workers.items()
                    for number in range(1, count + 1)
                ]
                try:
                    yield found
                finally:
                    await supervisor.stop(names)


def worker_name(role: str, number: int) -> str:
    """The name of a worker process."""
    return f"worker-{role}-{number}"


def _module(module: str, name: str, samples: Path | None) -> tuple[str, ...]:
    """How to run a module, with or without taking samples."""
    if samples is None:
        return (sys.executable, "-m", module)
    return (sys.executable, "-m", "bench.sampled", str(samples / f"{name}.json"), module)


async def _sampled_node(supervisor: Supervisor, samples: Path) -> str:
    """Start the node as `start_servers` does, but with samples taken; returns its URL."""
    port = choose_ports(supervisor.data_dir, [qdrant_node.NAME])[qdrant_node.NAME]
    await supervisor.start(
        ProcessSpec(
            name=qdrant_node.NAME,
            argv=(
                *_module("adapters.embedded.node", qdrant_node.NAME, samples),
                *("--data-dir", str(supervisor.data_dir / qdrant_node.NAME)),
                *("--port", str(port)),
            ),
            log_path=supervisor.log_path(qdrant_node.NAME),
            ready=lambda: answers_http2(port),
        )
    )
    return f"http://127.0.0.1:{port}"
