"""The files of an archive.

```
manifest.json                    what there is, with the hash of every file but large objects
events/FIRST-LAST.jsonl.gz       events as they are stored, one a line
answers/FIRST-LAST.jsonl.gz      answers to commands, by idempotency key
answers/none-TIME.jsonl.gz       those that came to no event
objects/FIRST-LAST.parquet       small objects that these events are the first to need
objects/…-without-TIME.parquet   what is left of such a file after an erasure
large/ab/cdef…                   large objects, under their addresses
```

Files are never changed. Those that no manifest names are left over from an export that was killed.
"""

import fcntl
import gzip
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Any, Self

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from adapters.archive.addresses import Addresses
from adapters.archive.errors import Damaged
from adapters.archive.manifest import ANSWERS, EVENTS, NAME, OBJECTS, Manifest, Part, decode
from adapters.durable_files import sync_folder, write_durably
from domain.model.errors import Conflict, NotFound, Rejected

LARGE = "large"
LARGE_AT_ONCE = 8
"""Large objects that are copied at a time."""
OBJECTS_AT_ONCE = 64
"""Small objects that are read at a time."""

_NO_MATTER = frozenset({".lock", f".{NAME}.new", "lost+found"})
_COMPRESSION = 6
_ADDRESS = re.compile("[0-9a-f]{64}")
_PACK = pa.schema(
    [("address", pa.binary(32)), ("manifest", pa.bool_()), ("content", pa.large_binary())]
)


class ArchiveFolder:
    """An archive in a folder.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def large_url(self) -> str:
        """Where its large objects are, as an object storage."""
        return (self.path / LARGE).resolve().as_uri()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder, which is made where it is missing, against other exports.

        Raises:
            Conflict: another export holds it.
            Rejected: the folder has files, and none is the manifest of an archive.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another export writes to {self.path}") from error
            strange = {file.name for file in self.path.iterdir()}
            strange -= {NAME, EVENTS, ANSWERS, OBJECTS, LARGE, *_NO_MATTER}
            if strange:
                raise Rejected(
                    f"{self.path} has files of others, such as {min(strange)!r}; choose an empty "
                    "folder, or one that an export made"
                )
            for name in (EVENTS, ANSWERS, OBJECTS):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
            yield
        finally:
            os.close(descriptor)

    def manifest(self) -> Manifest | None:
        """What the archive says it holds; None if nothing was written yet.

        Raises:
            Damaged: the manifest is not what was written.
        """
        path = self.path / NAME
        return decode(path.read_bytes(), path) if path.exists() else None

    def written(self) -> Manifest:
        """What the archive says it holds.

        Raises:
            NotFound: there is no archive.
            Damaged: the manifest is not what was written.
        """
        manifest = self.manifest()
        if manifest is None:
            raise NotFound(f"there is no archive in {self.path}: {NAME} is missing")
        return manifest

    def finish(
        self, manifest: Manifest, before: Manifest | None, *, without: Container[str] = ()
    ) -> None:
        """Make what was written the archive, in one step, and remove files of killed exports.

        Those of the archive before stay, for whoever is just reading it.

        Args:
            manifest: what there is now.
            before: what there was.
            without: paths of that which go at once, because something in them was erased.
        """
        for name in (EVENTS, ANSWERS, OBJECTS):
            sync_folder(self.path / name)
        write_durably(self.path / NAME, manifest.encode(), 0o600)
        old = [part for part in (before.parts if before else ()) if part.path not in without]
        named = {part.path for part in (*manifest.parts, *old)}
        for name in (EVENTS, ANSWERS, OBJECTS):
            for file in (self.path / name).iterdir():
                if f"{name}/{file.name}" not in named:
                    file.unlink()
            sync_folder(self.path / name)

    def rows(self, kind: str, name: str) -> "Rows":
        """A new file of JSON lines."""
        return Rows(self, kind, f"{kind}/{name}.jsonl.gz")

    def pack(self, name: str) -> "Pack":
        """A new file of small objects."""
        return Pack(self, f"{OBJECTS}/{name}.parquet")

    def lines(self, part: Part) -> Iterator[dict[str, Any]]:
        """The rows of a file of JSON lines.

        Raises:
            Damaged: they are something else.
        """
        try:
            with gzip.open(self.path / part.path) as file:
                for line in file:
                    yield orjson.loads(line)
        except (OSError, EOFError, ValueError) as error:
            raise Damaged((f"{part.path} cannot be read: {error}",)) from error

    def objects(self, part: Part) -> Iterator[list[tuple[str, bool, bytes]]]:
        """Small objects of a pack, some at a time: address, whether it is a manifest, content.

        Raises:
            Damaged: it cannot be read.
        """
        try:
            with pq.ParquetFile(self.path / part.path) as file:
                for batch in file.iter_batches(OBJECTS_AT_ONCE):
                    columns = [column.to_pylist() for column in batch.columns]
                    yield [(a.hex(), m, c) for a, m, c in zip(*columns, strict=True)]
        except (OSError, pa.ArrowException) as error:
            raise Damaged((f"{part.path} cannot be read: {error}",)) from error

    def addresses(self, part: Part) -> Iterator[list[str]]:
        """The addresses of the small objects of a pack; their contents are not read.

        Raises:
            Damaged: it cannot be read.
        """
        try:
            with pq.ParquetFile(self.path / part.path) as file:
                for batch in file.iter_batches(columns=["address"]):
                    yield [address.hex() for address in batch.column(0).to_pylist()]
        except (OSError, pa.ArrowException) as error:
            raise Damaged((f"{part.path} cannot be read: {error}",)) from error

    def has_large(self, address: str) -> bool:
        """Whether a large object was there when the archive was last finished.

        One that came later is of an export that was cut off, perhaps by a power cut, and may be
        anything.
        """
        try:
            written = (self.path / LARGE / address[:2] / address[2:]).stat().st_mtime_ns
            return written <= (self.path / NAME).stat().st_mtime_ns
        except FileNotFoundError:
            return False

    def large_objects(self, without: Addresses) -> tuple[int, int]:
        """How many large objects there are but for these, and their bytes."""
        count = size = 0
        for address, file in self._large():
            if address not in without:
                count += 1
                size += file.stat().st_size
        return count, size

    def forget_large(self, addresses: Addresses) -> None:
        """Remove large objects with these addresses."""
        for address, file in self._large():
            if address in addresses:
                file.unlink()
                sync_folder(file.parent)

    def _large(self) -> Iterator[tuple[str, Path]]:
        """Addresses and files of large objects; what is half written has another name."""
        for file in (self.path / LARGE).glob("*/*"):
            address = file.parent.name + file.name
            if _ADDRESS.fullmatch(address):
                yield address, file

    def problem_with(self, part: Part, *, read: bool) -> str | None:
        """What is wrong with a file, by its bytes or, where they are not read, by their number."""
        path = self.path / part.path
        if not path.is_file():
            return f"{part.path} is missing"
        if path.stat().st_size != part.size or (read and _digest(path) != part.digest):
            return f"{part.path} is not what was written"
        return None

    def part(self, kind: str, path: str, count: int) -> Part:
        """What a file that was written is."""
        file = self.path / path
        return Part(kind, path, count, file.stat().st_size, _digest(file))


class Rows:
    """Writes rows to a new file, as lines of JSON; use as a context manager.

    Attributes:
        part: the file, after its end.
    """

    def __init__(self, folder: ArchiveFolder, kind: str, path: str) -> None:
        self._folder = folder
        self._kind = kind
        self._path = path
        self._count = 0
        self.part = Part(kind, path, 0, 0, "")

    def __enter__(self) -> Self:
        self._file = (self._folder.path / self._path).open("wb")
        self._zipped = gzip.GzipFile("", "wb", _COMPRESSION, self._file, mtime=0)
        return self

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows."""
        for row in rows:
            self._zipped.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            self._count += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            self._zipped.close()
            if kind is None:
                _sync(self._file)
        if kind is None:
            self.part = self._folder.part(self._kind, self._path, self._count)


class Pack:
    """Writes small objects to a new file; use as a context manager.

    Attributes:
        part: the file, after its end; None if nothing was added, and so there is no file.
    """

    def __init__(self, folder: ArchiveFolder, path: str) -> None:
        self._folder = folder
        self._path = path
        self._count = 0
        self._writer: Any = None
        self.part: Part | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, contents: Mapping[str, bytes], *, manifests: bool) -> None:
        """Add objects by address."""
        if not contents:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._folder.path / self._path, _PACK, compression="none", use_dictionary=False
            )
        addresses = pa.array([bytes.fromhex(address) for address in contents], pa.binary(32))
        kinds = pa.array([manifests] * len(contents))
        bodies = pa.array(list(contents.values()), pa.large_binary())
        self._writer.write_table(pa.table([addresses, kinds, bodies], schema=_PACK))
        self._count += len(contents)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.close()
        if kind is None:
            with (self._folder.path / self._path).open("rb") as file:
                _sync(file)
            self.part = self._folder.part(OBJECTS, self._path, self._count)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
