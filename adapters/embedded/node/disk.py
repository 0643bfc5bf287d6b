"""Room on the disk.

The engine writes through memory maps, and a full disk ends a process that writes to one (SIGBUS).
So a write is refused while there is still room, as Qdrant does, and reads go on.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.embedded.node.errors import RefusalError, disk_full

log = logging.getLogger(__name__)

KEPT_FREE = 64 * 2**20
"""Bytes that no write takes: as much as Qdrant leaves by default, twice a file of its log."""

GROWTH = 4
"""Bytes on disk for a byte of a request, at most: the log, vectors, payloads, their indexes."""

COLLECTION_BYTES = 4 * 2**20
"""What an empty collection takes, and its indexes."""


def folder_size(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk; those that are sparse take few."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


class Disk:
    """The file system of the data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._promised = 0
        self._full = False

    def look(self) -> None:
        """Say so if it is full, before something is opened that may not survive it."""
        with suppress(RefusalError), self.room(0):
            pass

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Keep this many bytes for a write that takes place inside the block.

        Raises:
            RefusalError: they are not free.
        """
        with self._lock:
            found = os.statvfs(self._folder)
            free = found.f_bavail * found.f_frsize
            needed = KEPT_FREE + self._promised + size
            self._note(full=free < needed, free=free, needed=needed)
            if free < needed:
                raise disk_full(self._folder, free, needed)
            self._promised += size
        try:
            yield
        finally:
            with self._lock:
                self._promised -= size

    def _note(self, *, full: bool, free: int, needed: int) -> None:
        if full and not self._full:
            log.warning("disk_full folder=%s free=%d needed=%d", self._folder, free, needed)
        elif self._full and not full:
            log.info("disk_has_room_again folder=%s free=%d", self._folder, free)
        self._full = full
