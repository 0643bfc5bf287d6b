"""Keeps child processes running, and ends them with us.

The children are the embedded servers and our own workers. One that dies is started again; all are
stopped in reverse order when the supervisor is left; and when we are killed, the kernel ends them.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from adapters.embedded.data_dir import FolderLock
from adapters.embedded.failures import ProcessFailed
from adapters.embedded.process import ChildProcess, ProcessSpec
from domain.model.errors import Rejected

_POLL = 0.01  # seconds between two probes of a child that is starting

_log = logging.getLogger(__name__)


@dataclass
class BackOff:
    """How long to wait before a child is started again.

    Attributes:
        first: seconds before the first restart; doubles with each.
        most: seconds that it never exceeds.
        calm: a child that ran for this many seconds begins at `first` again.
    """

    first: float = 0.1
    most: float = 5.0
    calm: float = 30.0
    _next: float = 0.0

    def after(self, lived: float) -> float:
        """Seconds to wait after a child that ran for ``lived`` seconds."""
        delay = self.first if lived >= self.calm else max(self.first, self._next)
        self._next = min(delay * 2, self.most)
        return delay


class Supervisor:
    """Starts, restarts and stops the children of one data folder.

    Use it as an async context manager, from a thread that outlives it. An error in its own
    monitoring cancels the body of the context and is raised, as with `asyncio.TaskGroup`.

    Attributes:
        data_dir: absolute; where the servers keep their files.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self._children: dict[str, ChildProcess] = {}
        self._monitors: dict[str, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._lock: FolderLock | None = None

    async def __aenter__(self) -> Self:
        """Takes the data folder.

        Raises:
            DataDirInUse: another supervisor holds it.
        """
        self._lock = await FolderLock.acquire(self.data_dir)
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops all children and gives the data folder back."""
        try:
            await self.stop_all()
        finally:
            if not isinstance(error, asyncio.CancelledError):
                # The group would wrap an error of the body; it is raised as it is.
                kind = error = traceback = None
            try:
                await self._group.__aexit__(kind, error, traceback)
            finally:
                self._held().release()
                self._lock = None

    def log_path(self, name: str) -> Path:
        """Where the output of a child goes."""
        return self.data_dir / "logs" / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """The process id of a child, or None while it does not run."""
        child = self._children.get(name)
        return None if child is None else child.pid

    async def start(self, spec: ProcessSpec) -> None:
        """Starts a child, waits until it is ready, and keeps it running from then on.

        Raises:
            ProcessFailed: it ended, or was not ready in time. It does not run any more.
            Rejected: a child of this name is there already.
        """
        if spec.name in self._children:
            raise Rejected(f"{spec.name} has been started already")
        child = ChildProcess(spec, self._held().inherited)
        self._children[spec.name] = child
        try:
            child.spawn()
            await _until_ready(child)
        except BaseException:
            # A cancelled start ends here too: nothing is left behind, whatever the moment.
            try:
                await child.stop()
            finally:
                self._children.pop(spec.name, None)
            raise
        _log.info("process_started", extra={"child": spec.name, "pid": child.pid})
        self._monitors[spec.name] = self._group.create_task(
            self._keep_running(child), name=f"monitor of {spec.name}"
        )

    async def run(self, spec: ProcessSpec) -> None:
        """Runs a program to its end, within its `ready_timeout`.

        Raises:
            ProcessFailed: its exit status was not 0, or it took too long.
        """
        child = ChildProcess(spec, self._held().inherited)
        child.spawn()
        try:
            async with asyncio.timeout(spec.ready_timeout):
                await child.ended.wait()
        except TimeoutError as exc:
            raise ProcessFailed(spec.name, None, spec.log_path, child.last_lines()) from exc
        finally:
            await child.kill()
        if child.exit_status != 0:
            raise _ended(child)

    async def stop(self, names: Collection[str]) -> None:
        """Stop some children side by side, and leave the others running.

        A cancellation meanwhile leaves those that have not ended to `stop_all`.
        """
        async with asyncio.TaskGroup() as group:
            for name in names:
                monitor = self._monitors.pop(name, None)
                if monitor is not None:
                    monitor.cancel()
                if name in self._children:
                    group.create_task(self._stop_one(name))

    async def _stop_one(self, name: str) -> None:
        child = self._children[name]
        if await child.stop():
            _log.warning("process_killed", extra={"child": name})
        del self._children[name]
        _log.info("process_stopped", extra={"child": name, "exit_status": child.exit_status})

    async def stop_all(self) -> None:
        """Stops all children, the last started first; kills those that do not end in time.

        A cancellation meanwhile kills the rest at once and is then raised.
        """
        cancelled: asyncio.CancelledError | None = None
        while self._children:
            name, child = self._children.popitem()
            monitor = self._monitors.pop(name, None)
            if monitor is not None:
                monitor.cancel()
            try:
                if cancelled is not None:
                    await child.kill()
                elif await child.stop():
                    _log.warning("process_killed", extra={"child": name})
            except asyncio.CancelledError as exc:
                cancelled = exc
            _log.info("process_stopped", extra={"child": name, "exit_status": child.exit_status})
        if cancelled is not None:
            raise cancelled

    async def _keep_running(self, child: ChildProcess) -> None:
        back_off = BackOff()
        while True:
            await child.ended.wait()
            status, said = child.exit_status, child.last_lines().rpartition("\n")[2]
            await asyncio.sleep(back_off.after(child.lived))
            try:
                child.spawn()
            except OSError as exc:
                # The system is short of processes or memory, which may pass.
                _log.warning(
                    "process_restart_failed", extra={"child": child.spec.name, "cause": str(exc)}
                )
                continue
            _log.warning(
                "process_restarted",
                extra={
                    "child": child.spec.name,
                    "pid": child.pid,
                    "exit_status": status,
                    "last_line": said,
                },
            )

    def _held(self) -> FolderLock:
        if self._lock is None:
            raise Rejected("the supervisor is not running: use it as an async context manager")
        return self._lock


async def _until_ready(child: ChildProcess) -> None:
    """Waits until a child is ready.

    Raises:
        ProcessFailed: it ended, or was not ready in time.
    """
    spec = child.spec
    if spec.ready is None:
        return
    try:
        async with asyncio.timeout(spec.ready_timeout):
            while not await spec.ready():
                if child.ended.is_set():
                    raise _ended(child)
                await asyncio.sleep(_POLL)
    except TimeoutError as exc:
        raise ProcessFailed(spec.name, None, spec.log_path, child.last_lines()) from exc
    if child.ended.is_set():
        # Something else answered in its place.
        raise _ended(child)


def _ended(child: ChildProcess) -> ProcessFailed:
    spec = child.spec
    return ProcessFailed(spec.name, child.exit_status, spec.log_path, child.last_lines())
