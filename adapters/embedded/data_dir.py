"""The folder of the embedded servers: who holds it, and which ports its servers have."""

import asyncio
import fcntl
import json
import os
import socket
from collections.abc import Collection
from pathlib import Path

from adapters.durable_files import write_durably
from adapters.embedded.failures import DataDirInUse

_POLL = 0.02  # seconds
_LOOPBACK = "127.0.0.1"
_PORTS = "ports.json"


class FolderLock:
    """Holds a data folder for one supervisor and, through it, for the children of that supervisor.

    Two files are locked. `lock` belongs to the supervisor and carries its pid. `children.lock` is
    inherited by every child, so it is free only when the last child is gone, however the
    supervisor ended: a successor that has it shares no port and no file with a survivor.

    Attributes:
        inherited: descriptor to pass on to children.
    """

    def __init__(self, own: int, inherited: int) -> None:
        self._own = own
        self.inherited = inherited

    @classmethod
    async def acquire(cls, data_dir: Path, patience: float = 10.0) -> "FolderLock":
        """Makes the folder when needed, and takes it.

        Args:
            data_dir: the folder; made with mode 0700.
            patience: seconds to wait for orphans of a killed supervisor to end.

        Raises:
            DataDirInUse: another supervisor, or what is left of one, holds the folder.
        """
        own, inherited = _open_locks(data_dir)
        try:
            _take(own, data_dir)
            async with asyncio.timeout(patience):
                await _until_locked(inherited)
        except TimeoutError as exc:
            _close(own, inherited)
            raise DataDirInUse(data_dir, None) from exc
        except BaseException:
            _close(own, inherited)
            raise
        return cls(own, inherited)

    def release(self) -> None:
        """Gives the folder back. The children must have ended."""
        _close(self._own, self.inherited)


def _open_locks(data_dir: Path) -> tuple[int, int]:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    own = os.open(data_dir / "lock", flags, 0o600)
    return own, os.open(data_dir / "children.lock", flags, 0o600)


def _take(own: int, data_dir: Path) -> None:
    """Locks the supervisor's file and writes our pid into it."""
    if not _locked(own):
        written = os.pread(own, 32, 0).decode(errors="replace").strip()
        raise DataDirInUse(data_dir, int(written) if written.isdigit() else None)
    os.ftruncate(own, 0)
    os.pwrite(own, f"{os.getpid()}\n".encode(), 0)


async def _until_locked(descriptor: int) -> None:
    while True:
        if _locked(descriptor):
            return
        await asyncio.sleep(_POLL)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def choose_ports(data_dir: Path, names: Collection[str]) -> dict[str, int]:
    """The port of each server: the one it had, or a new one where that is taken.

    Args:
        data_dir: keeps the choice in `ports.json`.
        names: servers that are about to start.
    """
    path = data_dir / _PORTS
    recorded = recorded_ports(data_dir)
    chosen = dict(recorded)
    for name in sorted(names):
        if name not in recorded or not _is_free(recorded[name]):
            chosen[name] = _free_port(avoid=set(chosen.values()))
    if chosen != recorded:
        text = json.dumps(chosen, indent=2, sort_keys=True) + "\n"
        write_durably(path, text.encode(), mode=0o644)
    return {name: chosen[name] for name in names}


def recorded_ports(data_dir: Path) -> dict[str, int]:
    """Ports of earlier starts. A file that does not read is as good as none: ports are derived."""
    try:
        ports = json.loads((data_dir / _PORTS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(ports, dict):
        return {}
    return {name: port for name, port in ports.items() if isinstance(port, int)}


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the last run in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
            probe.listen(1)
        except (OSError, OverflowError):
            return False
    return True


def _free_port(avoid: set[int]) -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((_LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        if port not in avoid:
            return port
