"""Bodies and manifests of change sets as Parquet, the form in which objects are kept.

A *body* holds full images of points. A *manifest* says what a change set does to which points
and where their bodies are. Both are written the same way for the same content, and are named by
the SHA-256 of their bytes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from itertools import compress

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from domain.model.points import ERASED, HASH_SIZE, PointBatch

VECTOR_PREFIX = "vector:"
FORMAT = b"1"


def address_of(content: bytes) -> str:
    """The address of an object: SHA-256 of its bytes, in hexadecimal."""
    return sha256(content).hexdigest()


def encode_body(points: PointBatch, *, instead_of: str = "") -> bytes:
    """Parquet with columns `id`, `payload` and one `vector:NAME` for each vector, all binary.

    Vectors are little-endian float32 as `domain.model.points` encodes them; they do not compress,
    payloads do.

    Args:
        points: what it holds.
        instead_of: address of a body with the same points that was erased. It is named in the new
            one, so that this has another address.
    """
    columns = {
        "id": pa.array(points.keys, pa.binary()),
        "payload": pa.array(points.payloads, pa.binary()),
    }
    for name in sorted(points.vectors):
        columns[VECTOR_PREFIX + name] = pa.array(points.vectors[name], pa.binary())
    return _write(_in_place_of(pa.table(columns), instead_of), compressed=["payload"])


def without_rows(content: bytes, rows: Collection[int]) -> bytes:
    """A body with nothing but the ids at these rows; what is in the others stays where it is."""
    table = _read(content)
    gone = pa.array([row in rows for row in range(len(table))], pa.bool_())
    for index, name in enumerate(table.column_names):
        if name != "id":
            nothing = pa.scalar(None, table.schema.field(name).type)
            column = pc.if_else(gone, nothing, table.column(name))
            table = table.set_column(index, table.schema.field(name), column)
    return _write(_in_place_of(table, address_of(content)), compressed=["payload"])


def decode_body(content: bytes) -> PointBatch:
    """The points of an encoded body; `ERASED` is the payload where there is none any more."""
    return _points(_read(content))


def _points(table: pa.Table) -> PointBatch:
    return PointBatch(
        keys=table.column("id").to_pylist(),
        payloads=[payload or ERASED for payload in table.column("payload").to_pylist()],
        vectors={
            name.removeprefix(VECTOR_PREFIX): table.column(name).to_pylist()
            for name in table.column_names
            if name.startswith(VECTOR_PREFIX)
        },
    )


def decode_rows(content: bytes, rows: Sequence[int]) -> PointBatch:
    """The points at these rows of an encoded body, in this order; no others are made."""
    return _points(_read(content).take(pa.array(rows, pa.int32())))


def decode_payloads(content: bytes) -> list[bytes]:
    """The payloads of an encoded body, without reading its vectors; `ERASED` where one is gone."""
    return [payload or ERASED for payload in _read(content, ["payload"]).column(0).to_pylist()]


def decode_without_vectors(content: bytes) -> PointBatch:
    """The ids and payloads of an encoded body; `ERASED` where a payload is gone."""
    table = _read(content, ["id", "payload"])
    payloads = [payload or ERASED for payload in table.column("payload").to_pylist()]
    return PointBatch(table.column("id").to_pylist(), payloads)


@dataclass(frozen=True)
class Manifest:
    """What a change set does, by column; one row a point, each point once.

    A row with the same hash before and after changes nothing: its point came with others, and so it
    is in their body. An erasure has to find it there.

    Attributes:
        keys: id keys.
        before: hash of the point before, None where there was none.
        hashes: hash of the point after, None for a tombstone.
        objects: addresses of the bodies that the rows refer to.
        object_index: position in `objects` for each point; 0 for a tombstone.
        rows: row in that body; 0 for a tombstone.
    """

    keys: list[bytes]
    before: list[bytes | None]
    hashes: list[bytes | None]
    objects: list[str]
    object_index: list[int]
    rows: list[int]

    def __len__(self) -> int:
        return len(self.keys)

    def changing(self) -> "Manifest":
        """The rows that change something."""
        return self._only([b != a for b, a in zip(self.before, self.hashes, strict=True)])

    def idle(self) -> "Manifest":
        """The rows that change nothing."""
        return self._only([b == a for b, a in zip(self.before, self.hashes, strict=True)])

    def _only(self, chosen: list[bool]) -> "Manifest":
        if all(chosen):
            return self
        return replace(
            self,
            keys=[*compress(self.keys, chosen)],
            before=[*compress(self.before, chosen)],
            hashes=[*compress(self.hashes, chosen)],
            object_index=[*compress(self.object_index, chosen)],
            rows=[*compress(self.rows, chosen)],
        )


def encode_manifest(manifest: Manifest) -> bytes:
    """Parquet with columns `id`, `before`, `hash`, `object`, `row`; addresses in the metadata."""
    table = pa.table(
        {
            "id": pa.array(manifest.keys, pa.binary()),
            "before": pa.array(manifest.before, pa.binary(HASH_SIZE)),
            "hash": pa.array(manifest.hashes, pa.binary(HASH_SIZE)),
            "object": pa.array(manifest.object_index, pa.int32()),
            "row": pa.array(manifest.rows, pa.int32()),
        }
    ).replace_schema_metadata({"objects": ",".join(manifest.objects)})
    return _write(table, compressed=["object", "row"])


def decode_manifest(content: bytes) -> Manifest:
    """The manifest of encoded bytes."""
    table = _read(content)
    addresses = table.schema.metadata[b"objects"].decode()
    return Manifest(
        keys=table.column("id").to_pylist(),
        before=table.column("before").to_pylist(),
        hashes=table.column("hash").to_pylist(),
        objects=addresses.split(",") if addresses else [],
        object_index=table.column("object").to_pylist(),
        rows=table.column("row").to_pylist(),
    )


def bodies_of(manifest: bytes) -> list[str]:
    """The addresses of the bodies that an encoded manifest refers to; its rows are not read."""
    addresses = pq.read_schema(pa.BufferReader(manifest)).metadata[b"objects"].decode()
    return addresses.split(",") if addresses else []


def _in_place_of(table: pa.Table, address: str) -> pa.Table:
    return table.replace_schema_metadata({"instead_of": address}) if address else table


def _read(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table of a file; `pq.read_table` would first make a data set of it, for 0.3 ms."""
    file = pq.ParquetFile(pa.BufferReader(content))
    return file.read(columns=columns, use_threads=False)


def _write(table: pa.Table, *, compressed: list[str]) -> bytes:
    metadata = {**(table.schema.metadata or {}), b"format": FORMAT}
    sink = BytesIO()
    pq.write_table(
        table.replace_schema_metadata(metadata),
        sink,
        compression={name: "ZSTD" if name in compressed else "NONE" for name in table.column_names},
        use_dictionary=False,
        write_statistics=False,
        store_schema=True,
    )
    return sink.getvalue()
