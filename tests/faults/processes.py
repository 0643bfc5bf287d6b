"""Programs and servers that are killed, paused and started again."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.embedded.process import ChildProcess, ProcessSpec

UNEXPECTED_DELAY = 0.5
"""Seconds before a program that ended by itself is started again."""

STOP_SECONDS = 30.0
"""The product's limit from SIGTERM to the end of a process."""

BEGINNING_SECONDS = 20.0
"""How long a program may take to import what it needs, on a slow machine."""

Look = Callable[[], Awaitable[None]]


@dataclass
class Program:
    """One of our programs; started again when it is killed, as a supervisor of its own would.

    Attributes:
        deaths: exit statuses of ends that nobody asked for.
        stopped: exit status after `stop`.
    """

    child: ChildProcess
    deaths: list[int | None] = field(default_factory=list)
    stopped: int | None = None
    _asked: bool = False
    _leaving: bool = False
    _again: asyncio.Event = field(default_factory=asyncio.Event)
    _keeper: asyncio.Task[None] | None = None

    @classmethod
    def started(cls, spec: ProcessSpec, group: asyncio.TaskGroup) -> "Program":
        """Start a program and keep it running."""
        # The descriptor that `ChildProcess` passes on is of no use here.
        program = cls(ChildProcess(spec, os.open(os.devnull, os.O_RDONLY)))
        program.child.spawn()
        program._keeper = group.create_task(program._keep())
        return program

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self.child.spec.log_path

    @property
    def ended_well(self) -> bool:
        """Whether it ended in time when it was asked to; one that begins has no handler yet."""
        young = self.child.lived < BEGINNING_SECONDS
        return self.stopped == 0 or (self.stopped == -signal.SIGTERM and young)

    async def _keep(self) -> None:
        while True:
            await self.child.ended.wait()
            if self._leaving:
                return
            if self._asked:
                await self._again.wait()
                self._again.clear()
            else:
                self.deaths.append(self.child.exit_status)
                await asyncio.sleep(UNEXPECTED_DELAY)
            if self._leaving:
                return
            self._asked = False
            self.child.spawn()

    async def kill(self, seconds: float, look: Look) -> None:
        """Kill it; after a look at what it left, and so many seconds, start it again."""
        pid = self.child.pid
        if pid is None or self._asked:
            return  # another fault has it
        self._asked = True
        os.killpg(pid, signal.SIGKILL)
        await self.child.ended.wait()
        try:
            await look()
            await asyncio.sleep(seconds)
        finally:
            self._again.set()
        while self.child.pid is None:
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Ask it to end, and keep its exit status; killed when it takes too long."""
        if self._leaving:
            return
        self._leaving = True
        pid = self.child.pid
        if pid is not None:
            os.kill(pid, signal.SIGCONT)
        killed = await self.child.stop()
        self.stopped = None if killed else self.child.exit_status
        if self._keeper is not None:
            self._again.set()
            await self._keeper


async def pause(pid: int | None, seconds: float) -> None:
    """Stop a process and all below it, and let them go on later."""
    if pid is None:
        return
    paused = []
    for process in (pid, *below(pid)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            paused.append((process, _birth(process)))
    try:
        await asyncio.sleep(seconds)
    finally:
        for process, birth in paused:
            # The number may be another process's by now.
            with suppress(ProcessLookupError):
                if birth == _birth(process):
                    os.kill(process, signal.SIGCONT)


def below(pid: int) -> list[int]:
    """The descendants of a process."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int(_stat(int(folder.name))[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = children.get(pid, [])
    for child in found:
        found = found + below(child) if child in children else found
    return found


def _birth(pid: int) -> str:
    """When a process began, in ticks since the machine did (proc(5))."""
    try:
        return _stat(pid)[19]
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the name of the program."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return text.rpartition(")")[2].split()
