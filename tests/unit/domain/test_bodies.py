"""Bodies and manifests come back as they were written, and the same content is the same bytes."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from domain.model.bodies import (
    Manifest,
    address_of,
    decode_body,
    decode_manifest,
    decode_payloads,
    encode_body,
    encode_manifest,
)
from domain.model.points import PointBatch, key_of
from tests.builders import few_examples

keys = st.lists((st.integers(0, 2**64 - 1) | st.uuids()).map(key_of), unique=True, max_size=4)
hashes = st.binary(min_size=16, max_size=16)


@st.composite
def batches(draw: st.DrawFn) -> PointBatch:
    chosen = draw(keys)
    size = len(chosen)
    column = st.lists(st.none() | st.binary(max_size=8), min_size=size, max_size=size)
    return PointBatch(
        chosen,
        draw(st.lists(st.binary(max_size=8), min_size=size, max_size=size)),
        draw(
            st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), column, max_size=3)
        ),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    chosen = draw(keys)
    size = len(chosen)
    objects = draw(st.lists(hashes.map(address_of), min_size=1, max_size=3))
    after = draw(st.lists(st.none() | hashes, min_size=size, max_size=size))
    return Manifest(
        keys=chosen,
        before=draw(st.lists(st.none() | hashes, min_size=size, max_size=size)),
        hashes=after,
        objects=objects if any(after) else [],
        object_index=[0 if h is None else draw(st.integers(0, len(objects) - 1)) for h in after],
        rows=[0 if h is None else draw(st.integers(0, 2**31 - 1)) for h in after],
    )


@few_examples
@given(batches())
def test_bodies_survive(points: PointBatch) -> None:
    content = encode_body(points)
    back = decode_body(content)
    assert back == points
    assert back.hashes() == points.hashes()
    assert decode_payloads(content) == points.payloads


@few_examples
@given(batches())
def test_bodies_of_the_same_points_are_the_same_bytes(points: PointBatch) -> None:
    turned = PointBatch(points.keys, points.payloads, dict(reversed(points.vectors.items())))
    assert (
        encode_body(turned) == encode_body(points) == encode_body(decode_body(encode_body(points)))
    )


@few_examples
@given(manifests())
def test_manifests_survive(manifest: Manifest) -> None:
    content = encode_manifest(manifest)
    assert decode_manifest(content) == manifest
    assert encode_manifest(decode_manifest(content)) == content


def test_tombstones_refer_to_no_body() -> None:
    gone = Manifest([key_of(1), key_of(2)], [b"a" * 16, None], [None, None], [], [0, 0], [0, 0])
    assert decode_manifest(encode_manifest(gone)) == gone
    assert len(gone) == 2


def test_an_address_is_the_sha_256_of_the_bytes() -> None:
    assert address_of(b"abc") == sha256(b"abc").hexdigest()
