"""Points in a Parquet file: one row a point, vectors as lists of numbers.

Columns: `id` (text: a number, or a UUID), `payload` (JSON text), and for each vector `vector` (the
unnamed one) or `vector:NAME`: a dense one is a list of float32 of fixed size, a multi-vector a list
of these, a sparse one a struct of `indices` (uint32, ascending) and `values` (float32). A point
that lacks a vector has null there. The order is that of ids: numbers, then UUIDs.
"""

import asyncio
import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from domain.model.errors import Rejected
from domain.model.points import FLOAT32, UINT32, PointBatch, decode_sparse, id_of
from domain.model.schema import CollectionSchema, VectorKind, VectorSpec

SUFFIX = ".parquet"
METADATA = "migration-ledger"
"""Key of the file's metadata: JSON that says what the points are of."""


class ParquetFile:
    """Writes points to a new file, which is there when all of them are, or not at all.

    Args:
        path: of the file; nothing may be there.
        schema: of the collection.

    Raises:
        Rejected: something is there, or the folder is missing.
    """

    def __init__(self, path: Path, schema: CollectionSchema) -> None:
        if path.exists():
            raise Rejected(f"{path} exists; choose another name, nothing was written")
        if not path.parent.is_dir():
            raise Rejected(f"there is no folder {path.parent} to write {path.name} to")
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._vectors = schema.vectors
        self._writer: Any = None

    async def __aenter__(self) -> Self:
        columns = [pa.field("id", pa.string()), pa.field("payload", pa.string())]
        columns += [
            pa.field(column_name(name), _type(spec)) for name, spec in sorted(self._vectors.items())
        ]
        try:
            self._writer = await asyncio.to_thread(
                pq.ParquetWriter, self._partial, pa.schema(columns), compression="zstd"
            )
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise Rejected(f"{self._path} cannot be written: {error}") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await asyncio.to_thread(self._finish)
        finally:
            with suppress(OSError):
                self._writer.close()
            self._partial.unlink(missing_ok=True)

    async def write(self, points: PointBatch) -> None:
        """Add points."""
        await asyncio.to_thread(self._write, points)

    def describe(self, document: dict[str, Any]) -> None:
        """Say in the file what its points are of."""
        self._writer.add_key_value_metadata({METADATA: orjson.dumps(document).decode()})

    def _write(self, points: PointBatch) -> None:
        columns: list[Any] = [
            pa.array([str(id_of(key)) for key in points.keys], pa.string()),
            pa.array(points.payloads, pa.binary()).cast(pa.string()),
        ]
        missing: list[bytes | None] = [None] * len(points)
        for name, spec in sorted(self._vectors.items()):
            columns.append(_array(spec, points.vectors.get(name, missing)))
        self._writer.write_batch(pa.record_batch(columns, schema=self._writer.schema))

    def _finish(self) -> None:
        self._writer.close()
        with self._partial.open("rb") as written:
            os.fsync(written.fileno())
        try:
            _move(self._partial, self._path)
        except FileExistsError as error:
            raise Rejected(f"{self._path} exists by now; choose another name") from error
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _move(partial: Path, path: Path) -> None:
    """Give a file its name, unless somebody has made one of that name meanwhile."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as exFAT
        path.open("xb").close()
        partial.replace(path)


def column_name(name: str) -> str:
    """The column of a vector."""
    return f"vector:{name}" if name else "vector"


def _type(spec: VectorSpec) -> Any:
    if spec.kind is VectorKind.SPARSE:
        return pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))])
    row = pa.list_(pa.float32(), spec.dimension)
    return pa.list_(row) if spec.kind is VectorKind.MULTI else row


def _array(spec: VectorSpec, vectors: Sequence[bytes | None]) -> Any:
    """The Arrow column of encoded vectors; no number passes through Python."""
    mask = pa.array([vector is None for vector in vectors], pa.bool_())
    if spec.kind is VectorKind.SPARSE:
        return _sparse(vectors, mask)
    if spec.kind is VectorKind.DENSE:
        blank = bytes(4 * spec.dimension)
        joined = b"".join(blank if vector is None else vector for vector in vectors)
        numbers = pa.array(np.frombuffer(joined, FLOAT32))
        return pa.FixedSizeListArray.from_arrays(numbers, spec.dimension, mask=mask)
    numbers = pa.array(np.frombuffer(b"".join(vector or b"" for vector in vectors), FLOAT32))
    rows = pa.FixedSizeListArray.from_arrays(numbers, spec.dimension)
    return pa.ListArray.from_arrays(_offsets(vectors, 4 * spec.dimension), rows, mask=mask)


def _sparse(vectors: Sequence[bytes | None], mask: Any) -> Any:
    decoded = [decode_sparse(vector or b"") for vector in vectors]
    offsets = _offsets(vectors, 8)
    indices = np.concatenate([np.empty(0, UINT32), *(index for index, _ in decoded)])
    values = np.concatenate([np.empty(0, FLOAT32), *(value for _, value in decoded)])
    return pa.StructArray.from_arrays(
        [
            pa.ListArray.from_arrays(offsets, pa.array(indices)),
            pa.ListArray.from_arrays(offsets, pa.array(values)),
        ],
        names=["indices", "values"],
        mask=mask,
    )


def _offsets(vectors: Sequence[bytes | None], size: int) -> Any:
    """Where each vector begins among all rows or entries, of so many bytes each."""
    lengths = np.fromiter((len(vector or b"") // size for vector in vectors), np.int32)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
