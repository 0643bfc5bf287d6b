"""The program as a person runs it: child processes, exit statuses, output."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.e2e.preloaded import run_preloaded
from tests.infra.brokers import broker_environment, configured
from tests.infra.kafka.admin import delete_topics

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


NOTHING_SET: Mapping[str, str] = MappingProxyType({})


def environment(settings: Mapping[str, str] = NOTHING_SET) -> dict[str, str]:
    """Ours, with these variables of the product and no others."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("MIGRATION_LEDGER_")}
    return {**ours, **settings}


async def start(
    *arguments: str,
    folder: Path,
    settings: Mapping[str, str] = NOTHING_SET,
    stdin: int = asyncio.subprocess.DEVNULL,
) -> asyncio.subprocess.Process:
    """Start the program in a folder."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=stdin,
        cwd=folder,
        env=environment(settings),
    )


async def run(
    *arguments: str,
    folder: Path,
    settings: Mapping[str, str] = NOTHING_SET,
    seconds: float = COMMAND_SECONDS,
) -> Ended:
    """Run the program to its end, or kill it when it takes too long."""
    async with asyncio.timeout(seconds):
        return Ended(*await run_preloaded(arguments, folder, environment(settings)))


async def until_says(process: asyncio.subprocess.Process, words: str) -> str:
    """The line of its output that has these words."""
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        if words in line:
            return line
    raise AssertionError(f"ended with {await process.wait()} and never said {words!r}")


@dataclass(frozen=True)
class Up:
    """A running `up`.

    Attributes:
        folder: where commands are run; the settings file lies there.
        data_dir: its data directory.
        found: what `doctor --json` says.
        process: the process.
        settings: variables that its commands need, too.
    """

    folder: Path
    data_dir: Path
    found: dict[str, Any]
    process: asyncio.subprocess.Process
    settings: Mapping[str, str] = field(default_factory=dict)

    async def run(self, *arguments: str, settings: Mapping[str, str] | None = None) -> Ended:
        """Run a command against it, with its settings or others."""
        return await run(
            *self._here(arguments), folder=self.folder, settings=settings or self.settings
        )

    async def start(
        self, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL
    ) -> asyncio.subprocess.Process:
        """Start a command against it."""
        here = self._here(arguments)
        return await start(*here, folder=self.folder, settings=self.settings, stdin=stdin)

    def _here(self, arguments: Sequence[str]) -> tuple[str, ...]:
        return (*arguments, "--data-dir", str(self.data_dir))

    def url(self, name: str) -> str:
        """Where a server answers."""
        url: str = self.found[name]["url"]
        return url

    async def pids(self) -> dict[str, int]:
        """The process of each role that is alive now."""
        found = (await self.run("doctor", "--json")).document
        return {role: state["workers"][-1]["pid"] for role, state in found["roles"].items()}


@asynccontextmanager
async def running(folder: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[Up]:
    """`migration-ledger up` in a folder of its own, stopped with SIGTERM at the end.

    Args:
        folder: where it runs.
        settings: variables of the product; those of the configured broker, if there is one.
    """
    data_dir = folder / "data of a test"
    if settings is None:
        settings = broker_environment()
        if broker := configured():
            await delete_topics(broker)
    process = await start(
        *("up", "--json", "--data-dir", str(data_dir)), folder=folder, settings=settings
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as group:
        drained = group.create_task(process.stderr.read())
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
            yield Up(folder, data_dir, json.loads(line), process, settings)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
                await drained
