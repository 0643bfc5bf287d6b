"""Workers as processes, with the ledger, the objects and the store of a world."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.kafka.settings import KafkaSettings
from tests.e2e.program import environment
from tests.integration.worlds import STORE, World, eventually

ROOT = Path(__file__).parents[2]
PROGRAM = ("-m", "adapters.cli")


@dataclass(frozen=True)
class WorkerProcess:
    """A running worker.

    Attributes:
        process: it.
        log_path: what it writes.
    """

    process: asyncio.subprocess.Process
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def says(self, words: str, *, times: int = 1) -> None:
        """Wait until it has logged something so often."""

        async def said() -> bool:
            assert self.process.returncode is None, self.log
            return self.log.count(words) >= times

        await eventually(said)

    async def stopped(self) -> None:
        """Wait until SIGSTOP has stopped it, all of its threads."""

        async def stands() -> bool:
            return set(_states(self.process.pid)) == {"T"}

        await eventually(stands)


def _states(pid: int) -> Iterator[str]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        _, _, after_name = (thread / "stat").read_text().rpartition(")")
        yield after_name.split()[0]


@asynccontextmanager
async def worker_process(
    world: World,
    name: str,
    roles: str,
    *,
    folder: Path,
    kafka: KafkaSettings,
    qdrant_url: str,
    program: Sequence[str] = PROGRAM,
) -> AsyncIterator[WorkerProcess]:
    """A worker, killed at the end if it still runs.

    Args:
        world: whose ledger it works for.
        name: of its folder.
        roles: what it does.
        folder: that has the objects of the world.
        kafka: its broker.
        qdrant_url: where it finds the world's store.
        program: arguments for Python that run the command line.
    """
    home = folder / name
    home.mkdir()
    (home / "migration-ledger.toml").write_text(f'[stores.{STORE}]\nurl = "{qdrant_url}"\n')
    settings = {
        "MIGRATION_LEDGER_DATABASE_URL": world.url,
        "MIGRATION_LEDGER_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "MIGRATION_LEDGER_QDRANT_URL": qdrant_url,
        "MIGRATION_LEDGER_OBJECTS_URL": (folder / "objects").as_uri(),
        "PYTHONPATH": str(ROOT),
    }
    log_path = home / "log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, "worker", "--roles", roles),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            env={**environment(), **settings},
        )
    try:
        yield WorkerProcess(process, log_path)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
