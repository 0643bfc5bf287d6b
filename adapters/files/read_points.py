"""Points from files and standard input: JSON Lines, or Parquet as `adapters.files.parquet` says.

Both come in batches, so that memory does not grow with the file. What is wrong names the line, or
the row, and the point.
"""

import errno
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, TypeVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adapters.files.parquet import SUFFIX, column_name
from domain.model.canonical import (
    canonical_sparse,
    dense_vectors,
    encode_canonical,
    keys_of,
    multi_vectors,
    payloads_of,
    points_of,
    vector_named,
)
from domain.model.errors import DiskFull, InvalidPoint, Rejected
from domain.model.points import PointBatch, id_of, key_of
from domain.model.schema import CollectionSchema, VectorKind, VectorSpec
from domain.use_cases.write_points import Delete, SetPayload, Upsert, Write

STDIN = "-"
STDIN_NAMED = "standard input"
MAGIC = b"PAR1"
"""A Parquet file begins with it, and no JSON does."""
DIGITS = 20
"""Of the largest id that is a number."""

BATCH_BYTES = 8 * 2**20
"""Lines of about so many bytes make a batch, if their number does not."""

T = TypeVar("T")


def read_writes(kind: str, file: str, schema: CollectionSchema, size: int) -> Iterator[Write]:
    """The writes that a file asks for, in its order.

    Args:
        kind: ``upsert``, ``delete`` or ``set-payload``.
        file: its path; or ``-`` for standard input, whose first bytes say what it is.
        schema: of the collection.
        size: points of a write, at most.

    Raises:
        Rejected: the file is missing or is not what its name says.
        InvalidPoint: a point that the collection cannot take.
        DiskFull: there is no room for the Parquet of standard input, which has to be in a file.
    """
    if file == STDIN:
        head = sys.stdin.buffer.readline(len(MAGIC))
        if head != MAGIC:
            rest = b"" if head.endswith(b"\n") else sys.stdin.buffer.readline()
            lines = chain([head + rest], sys.stdin.buffer)
            yield from _from_lines(kind, STDIN_NAMED, lines, schema, size)
            return
        with _copied(head) as copy:
            yield from _from_parquet(kind, STDIN_NAMED, copy, schema, size)
    elif file.endswith(SUFFIX):
        yield from _from_parquet(kind, file, Path(file), schema, size)
    else:
        with ExitStack() as stack:
            yield from _from_lines(kind, file, _open(stack, file), schema, size)


def _from_lines(
    kind: str, name: str, lines: Iterable[bytes], schema: CollectionSchema, size: int
) -> Iterator[Write]:
    make: dict[str, Callable[[Sequence[Any]], Write]] = {
        "upsert": lambda found: Upsert(points_of(schema, found)),
        "delete": lambda found: Delete(keys_of(found)),
        "set-payload": lambda found: SetPayload(payloads_of(found)),
    }
    for first, documents in _documents(name, lines, size):
        yield _placed(f"{name}, from line {first}", make[kind], documents)


def _documents(name: str, lines: Iterable[bytes], size: int) -> Iterator[tuple[int, list[Any]]]:
    """Documents with the number of the first one's line; empty lines count as lines only."""
    documents: list[Any] = []
    first, read = 1, 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                documents.append(orjson.loads(line))
            except orjson.JSONDecodeError as error:
                raise InvalidPoint(f"{name}, line {number} is not JSON: {error}") from error
        read += len(line)
        if len(documents) == size or read > BATCH_BYTES:
            if documents:
                yield first, documents
            documents, first, read = [], number + 1, 0
    if documents:
        yield first, documents


def _open(stack: ExitStack, file: str) -> IO[bytes]:
    try:
        return stack.enter_context(Path(file).open("rb"))
    except OSError as error:
        raise Rejected(f"{file} cannot be read: {error.strerror}") from error


@contextmanager
def _copied(head: bytes) -> Iterator[IO[bytes]]:
    """Standard input as a file, since Parquet is read from its end.

    Raises:
        DiskFull: there is no room for it.
    """
    try:
        with TemporaryFile() as copy:
            copy.write(head)
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.seek(0)
            yield copy
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DiskFull("the folder for temporary files", str(error.strerror)) from error


def _placed(where: str, make: Callable[[T], Write], given: T) -> Write:
    try:
        return make(given)
    except InvalidPoint as error:
        raise InvalidPoint(f"{where}: {error}") from error


def _from_parquet(
    kind: str, name: str, source: Path | IO[bytes], schema: CollectionSchema, size: int
) -> Iterator[Write]:
    with _damage_named(name), pq.ParquetFile(source) as file:
        wanted = _columns(name, kind, file.schema_arrow.names, schema)
        row = 0
        for batch in file.iter_batches(size, columns=wanted):
            where = f"{name}, from row {row + 1}"
            yield _placed(where, lambda b: _write(kind, b, schema), batch)
            row += len(batch)


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Turn what cannot be read of a file into an error that names it."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise Rejected(f"{name} cannot be read as Parquet: {error}") from error


def _columns(file: str, kind: str, there: Sequence[str], schema: CollectionSchema) -> list[str]:
    """The columns to be read.

    Raises:
        Rejected: one is missing, or the collection has no such vector.
    """
    vectors = [column_name(name) for name in sorted(schema.vectors)]
    needed = {"upsert": ["id"], "delete": ["id"], "set-payload": ["id", "payload"]}[kind]
    missing = [name for name in needed if name not in there]
    unknown = [
        name for name in there if name not in {"id", "payload", *vectors} and kind == "upsert"
    ]
    if missing:
        raise Rejected(f"{file} has no column {missing[0]!r}; it has {', '.join(there)}")
    if unknown:
        raise Rejected(
            f"{file} has a column {unknown[0]!r}, and the collection takes id, payload, "
            f"{', '.join(vectors)}"
        )
    if kind != "upsert":
        return needed
    if not set(vectors) & set(there):
        raise Rejected(f"{file} has no vectors; there may be columns {', '.join(vectors)}")
    return list(there)


def _write(kind: str, batch: Any, schema: CollectionSchema) -> Write:
    keys = [key_of(_id(value)) for value in batch.column("id").to_pylist()]
    if kind == "delete":
        return Delete(list(dict.fromkeys(keys)))
    if kind == "set-payload":
        payloads = [_fields(text) for text in batch.column("payload").to_pylist()]
        ids = batch.column("id").to_pylist()
        return SetPayload(
            payloads_of(
                {"id": _id(one), "payload": payload}
                for one, payload in zip(ids, payloads, strict=True)
            )
        )
    names = set(batch.schema.names)
    texts = batch.column("payload").to_pylist() if "payload" in names else [None] * len(keys)
    points = PointBatch(
        keys=keys,
        payloads=[encode_canonical(_fields(text) or {}) for text in texts],
        vectors={
            name: _encoded(spec, batch.column(column_name(name)), keys, name)
            for name, spec in schema.vectors.items()
            if column_name(name) in names
        },
    )
    last = {key: row for row, key in enumerate(keys)}
    return Upsert(points if len(last) == len(keys) else points.take(list(last.values())))


def _id(value: Any) -> int | str:
    """A number may be written as text; one that is too long for an id stays text."""
    short = isinstance(value, str) and len(value) <= DIGITS and value.isdecimal()
    return int(value) if short else value


def _fields(text: Any) -> Any:
    """The payload that a cell holds."""
    if text is None:
        return None
    try:
        payload = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise InvalidPoint(f"a payload is not JSON text: {error}") from error
    if not isinstance(payload, dict):
        raise InvalidPoint("a payload is not a JSON object")
    return payload


def _encoded(spec: VectorSpec, column: Any, keys: Sequence[bytes], name: str) -> list[bytes | None]:
    """Encoded vectors of an Arrow column, None where a point has none."""
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    owners = [key for key, there in zip(keys, valid, strict=True) if there]
    read = {VectorKind.DENSE: _dense, VectorKind.MULTI: _multi, VectorKind.SPARSE: _sparse}
    try:
        encoded = iter(read[spec.kind](spec, column.drop_null(), owners, name) if owners else [])
    except (pa.ArrowInvalid, AttributeError, KeyError) as error:
        raise InvalidPoint(
            f"column {column_name(name)!r} is {column.type}, and the collection has a "
            f"{spec.shape} vector there"
        ) from error
    return [next(encoded) if there else None for there in valid]


def _rows(spec: VectorSpec, lists: Any, owners: Sequence[bytes], name: str) -> Any:
    """`(n, dimension)` numbers of an Arrow array of lists without nulls."""
    numbers = lists.flatten()
    if not (pa.types.is_floating(numbers.type) or pa.types.is_integer(numbers.type)):
        raise pa.ArrowInvalid("no numbers")
    if numbers.null_count:
        raise InvalidPoint(f"{vector_named(name)} has null for a number")
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != spec.dimension)
    if wrong.size:
        raise InvalidPoint(
            f"point {id_of(owners[wrong[0]])}: {vector_named(name)} is {lengths[wrong[0]]} "
            f"numbers, and the collection takes {spec.dimension} numbers"
        )
    return numbers.to_numpy(zero_copy_only=False).reshape(-1, spec.dimension)


def _dense(spec: VectorSpec, column: Any, owners: Sequence[bytes], name: str) -> list[bytes]:
    return dense_vectors(spec, _rows(spec, column, owners, name), owners, name)


def _multi(spec: VectorSpec, column: Any, owners: Sequence[bytes], name: str) -> list[bytes]:
    counts = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    if not counts.all():
        raise InvalidPoint(f"vector {name!r} must be a list of vectors, and is empty for a point")
    each = [key for key, count in zip(owners, counts, strict=True) for _ in range(count)]
    rows = _rows(spec, column.flatten(), each, name)
    return multi_vectors(spec, rows, owners, counts, name)


def _sparse(_spec: VectorSpec, column: Any, _owners: Sequence[bytes], _name: str) -> list[bytes]:
    indices, values = column.field("indices"), column.field("values")
    return [
        canonical_sparse(np.asarray(index.values), np.asarray(value.values))
        for index, value in zip(indices, values, strict=True)
    ]
