"""The program as a person runs it: child processes, exit statuses, output."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 90
COMMAND_SECONDS = 120
STOP_SECONDS = 30


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: exit status.
        out: standard output.
        err: standard error.
    """

    status: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The lines of JSON on standard output."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def document(self) -> dict[str, Any]:
        """The one line of JSON on standard output."""
        (only,) = self.documents
        return only


def environment() -> dict[str, str]:
    """Ours, without settings of the product."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MIGRATION_LEDGER_")}


async def start(*arguments: str, folder: Path) -> asyncio.subprocess.Process:
    """Start the program in a folder."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
        cwd=folder,
        env=environment(),
    )


async def run(*arguments: str, folder: Path) -> Ended:
    """Run the program to its end."""
    process = await start(*arguments, folder=folder)
    async with asyncio.timeout(COMMAND_SECONDS):
        out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


@dataclass(frozen=True)
class Up:
    """A running `up`.

    Attributes:
        folder: where commands are run; the settings file lies there.
        data_dir: its data directory.
        found: what `doctor --json` says.
        process: the process.
    """

    folder: Path
    data_dir: Path
    found: dict[str, Any]
    process: asyncio.subprocess.Process

    async def run(self, *arguments: str) -> Ended:
        """Run a command against it."""
        return await run(*arguments, "--data-dir", str(self.data_dir), folder=self.folder)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command against it."""
        return await start(*arguments, "--data-dir", str(self.data_dir), folder=self.folder)

    def url(self, name: str) -> str:
        """Where a server answers."""
        url: str = self.found[name]["url"]
        return url

    async def pids(self) -> dict[str, int]:
        """The process of each role that is alive now."""
        found = (await self.run("doctor", "--json")).document
        return {role: state["workers"][-1]["pid"] for role, state in found["roles"].items()}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Up]:
    """`migration-ledger up` in a folder of its own, stopped with SIGTERM at the end."""
    data_dir = folder / "data of a test"
    process = await start("up", "--json", "--data-dir", str(data_dir), folder=folder)
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as group:
        drained = group.create_task(process.stderr.read())
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
            yield Up(folder, data_dir, json.loads(line), process)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
                await drained
