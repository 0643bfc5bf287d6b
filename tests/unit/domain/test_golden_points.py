"""Hashes, digests and addresses that may never change: what was recorded stays true."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from domain.model.bodies import (
    Manifest,
    address_of,
    decode_body,
    decode_manifest,
    encode_body,
    encode_manifest,
)
from domain.model.points import (
    Digest,
    PointBatch,
    encode_dense,
    encode_payload,
    encode_sparse,
    id_of,
    key_of,
)

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "points.json").read_text()
)


def vector(value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, dict):
        return encode_sparse(value["indices"], value["values"])
    return encode_dense(value)


def points() -> PointBatch:
    rows = GOLDEN["points"]
    return PointBatch(
        keys=[key_of(row["id"]) for row in rows],
        payloads=[encode_payload(row["payload"]) for row in rows],
        vectors={
            name: [vector(row["vectors"].get(name)) for row in rows] for name in ("", "rows", "ž")
        },
    )


def test_points_have_the_pinned_keys_and_payloads() -> None:
    for row, key, payload in zip(GOLDEN["points"], points().keys, points().payloads, strict=True):
        assert key.hex() == row["key"]
        assert payload.decode() == row["payload_bytes"]
        assert id_of(key) == row["id"]


@pytest.mark.parametrize("number", range(len(GOLDEN["points"])))
def test_points_have_the_pinned_hash(number: int) -> None:
    assert points().hashes()[number].hex() == GOLDEN["points"][number]["hash"]


def test_a_version_has_the_pinned_digest() -> None:
    digest = Digest()
    assert digest.hexdigest() == GOLDEN["empty_digest"]
    for key, point_hash in sorted(zip(points().keys, points().hashes(), strict=True)):
        digest.add(key, point_hash)
    assert digest.hexdigest() == GOLDEN["digest"]


def manifest() -> Manifest:
    batch = points()
    return Manifest(
        keys=batch.keys,
        before=[None, *batch.hashes()[1:]],
        hashes=[*batch.hashes()[:-1], None],
        objects=[GOLDEN["body"]["address"]],
        object_index=[0] * len(batch),
        rows=[*range(len(batch) - 1), 0],
    )


def test_yesterdays_objects_are_read() -> None:
    body, rows = (b64decode(GOLDEN[name]["content"]) for name in ("body", "manifest"))
    assert address_of(body) == GOLDEN["body"]["address"]
    assert address_of(rows) == GOLDEN["manifest"]["address"]
    assert decode_body(body) == points()
    assert decode_manifest(rows) == manifest()


@pytest.mark.skipif(
    pa.__version__ != GOLDEN["pyarrow"], reason="Parquet files name the version that wrote them"
)
def test_objects_are_written_with_the_pinned_addresses() -> None:
    assert address_of(encode_body(points())) == GOLDEN["body"]["address"]
    assert address_of(encode_manifest(manifest())) == GOLDEN["manifest"]["address"]
