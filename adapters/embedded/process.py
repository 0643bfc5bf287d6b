"""One child process: how it is started, how its end is noticed, how it is stopped."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from adapters.embedded import launch

_LOG_LIMIT = 10 * 1024 * 1024  # bytes
_TAIL_BYTES = 8 * 1024
_TAIL_LINES = 20


@dataclass(frozen=True)
class RunAs:
    """The user that a child becomes when we are root.

    Attributes:
        uid: user id.
        gid: group id.
        reach: paths that the user must be able to enter or execute.
    """

    uid: int
    gid: int
    reach: tuple[Path, ...]


@dataclass(frozen=True)
class ProcessSpec:
    """A child process, as data.

    Attributes:
        name: unique in its supervisor.
        argv: program (an absolute path) and its arguments; never a shell.
        log_path: where its output is appended; moved to `NAME.log.1` at a start over 10 MB.
        ready: probed until it is true; None when running is enough.
        ready_timeout: seconds until it must be ready.
        env: its whole environment; None for ours.
        cwd: its working folder; None for ours.
        stop_signal: asks it to end.
        stop_timeout: seconds after which it is killed.
        death_signal: what the kernel sends it when we end without stopping it.
        run_as: the user it becomes; None to stay who we are.
    """

    name: str
    argv: tuple[str, ...]
    log_path: Path
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_timeout: float = 30.0
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    run_as: RunAs | None = None


class ChildProcess:
    """A process that runs a spec; it can be started again after it has ended.

    All methods are called on the loop that started it. The kernel ties the process to the *thread*
    that started it, so that thread must live as long as the child should.

    Attributes:
        spec: what it runs.
        ended: set while no process runs.
    """

    def __init__(self, spec: ProcessSpec, inherited: int) -> None:
        self.spec = spec
        self.ended = asyncio.Event()
        self.ended.set()
        self._inherited = inherited
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._started_at = 0.0
        self._ended_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None or self.ended.is_set() else self._process.pid

    @property
    def exit_status(self) -> int | None:
        """As of `subprocess.Popen.returncode`: negative for a signal, None while it runs."""
        return None if self._process is None else self._process.returncode

    @property
    def lived(self) -> float:
        """Seconds that the last process ran."""
        return self._ended_at - self._started_at

    def spawn(self) -> None:
        """Starts a process.

        Raises:
            OSError: the system could not start one.
        """
        spec = self.spec
        user = f"{spec.run_as.uid}:{spec.run_as.gid}" if spec.run_as else "-"
        reach = map(str, spec.run_as.reach) if spec.run_as else ()
        with _open_log(spec.log_path) as log, _sigint_blocked():
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603  (argv is ours, and no shell reads it)
                (
                    *(sys.executable, "-I", "-S", launch.__file__),
                    *(str(os.getpid()), str(int(spec.death_signal)), user, *reach),
                    *("--", *spec.argv),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=spec.env,
                cwd=spec.cwd,
                pass_fds=(self._inherited,),
                # A ctrl-C at the terminal is ours to hear; we then stop the children in order.
                start_new_session=True,
            )
        loop = asyncio.get_running_loop()
        self._started_at = loop.time()
        self.ended.clear()
        # Readable when the process has ended; it is reaped here alone, so its pid is never stale.
        pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(pidfd, self._reap, self._process, pidfd)

    def _reap(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(pidfd)
        os.close(pidfd)
        process.wait()
        self._ended_at = loop.time()
        self.ended.set()

    async def stop(self) -> bool:
        """Asks the process to end, and kills it when it does not.

        One that was stopped is continued, so that it hears it. A cancellation while waiting kills
        it at once and is then raised.

        Returns:
            Whether it had to be killed.
        """
        self._signal(self.spec.stop_signal)
        self._signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(self.spec.stop_timeout):
                await self.ended.wait()
        except TimeoutError:
            await self.kill()
            return True
        except asyncio.CancelledError:
            await self.kill()
            raise
        return False

    async def kill(self) -> None:
        """Kills the process and its session, and waits until it is gone."""
        cancelled: asyncio.CancelledError | None = None
        while not self.ended.is_set():
            self._signal(signal.SIGKILL)
            try:
                await self.ended.wait()
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            raise cancelled

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is None:
            return
        if number is signal.SIGKILL:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)

    def last_lines(self) -> str:
        """The end of what the last process wrote to its log."""
        with self.spec.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Blocks SIGINT in this thread, and so in a child until the launcher is ready for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open_log(path: Path) -> IO[bytes]:
    """Opens a log for appending, after moving one that has grown too large out of the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")
