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
    decode_without_vectors,
    encode_body,
    encode_manifest,
    without_rows,
)
from domain.model.points import ERASED, PointBatch, key_of
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


PLANTED = PointBatch(
    keys=[key_of(number) for number in range(4)],
    payloads=[b'{"name":"%d of them"}' % number for number in range(4)],
    vectors={
        "": [b"vector-%d" % number for number in range(4)],
        "other": [None, b"more", None, b"x"],
    },
)


def test_rows_go_and_the_others_stay_where_they_are() -> None:
    content = encode_body(PLANTED)
    left = without_rows(content, {1, 3})
    points = decode_body(left)
    assert points.keys == PLANTED.keys
    assert points.payloads == [PLANTED.payloads[0], ERASED, PLANTED.payloads[2], ERASED]
    assert points.vectors == {
        "": [b"vector-0", None, b"vector-2", None],
        "other": [None, None, None, None],
    }
    assert points.there() == points.take([0, 2])
    assert points.there().hashes() == PLANTED.take([0, 2]).hashes()
    assert b"vector-1" in content
    assert b"vector-1" not in left
    assert decode_payloads(left) == points.payloads
    assert decode_without_vectors(left).payloads == points.payloads


def test_what_is_there_instead_never_has_the_address_of_another_body() -> None:
    content = encode_body(PLANTED)
    addresses = {
        address_of(one)
        for one in (
            content,
            without_rows(content, {0}),
            without_rows(content, ()),
            encode_body(PLANTED, instead_of=address_of(content)),
            encode_body(PLANTED, instead_of=address_of(b"another")),
            without_rows(without_rows(content, {0}), {0}),
        )
    }
    assert len(addresses) == 6 - 1  # the same points in place of the same body, said twice
    assert without_rows(content, {0}) == without_rows(content, {0})
