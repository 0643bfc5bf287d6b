"""Every single fault of a store is found by a verification, and a repair puts just that right."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import numpy as np
import pytest

from domain.model.points import encode_dense, encode_sparse, id_of
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases import merge
from domain.use_cases import repair as repairing
from domain.use_cases import verify as verifying
from domain.use_cases.verify import Verification
from tests.integration.builders import CODE, DOCS, document_points
from tests.integration.filled import Filled, filled, no_index, one_less, one_more, one_payload
from tests.integration.tampering import drop_index, flip
from tests.integration.worlds import World

PAGE = 7


@pytest.fixture(autouse=True)
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every comparison crosses many pages."""
    for module in (merge, verifying, repairing):
        monkeypatch.setattr(module, "PAGE", PAGE)


Fault = Callable[[Filled, int, Random], Awaitable[None]]
"""Changes something of the point in a row, or of the collection, behind the ledger's back."""


async def flip_dense(one: Filled, row: int, random: Random) -> None:
    await flip(one.world, one.name, one.points.take([row]), "", random.randrange(8 * 32))


async def flip_named(one: Filled, row: int, random: Random) -> None:
    await flip(one.world, one.name, one.points.take([row]), "text", random.randrange(6 * 32))


def with_words(one: Filled, row: int) -> int:
    """A row whose point has a sparse vector: one of two neighbours has."""
    return row if one.points.vectors["words"][row] is not None else row + 1


async def flip_sparse_value(one: Filled, row: int, random: Random) -> None:
    values = 4 * 32  # behind the indices
    point = one.points.take([with_words(one, row)])
    await flip(one.world, one.name, point, "words", values + random.randrange(96))


async def flip_sparse_index(one: Filled, row: int, random: Random) -> None:
    last = 3 * 32  # of a bit that makes the largest index larger, so that they stay in order
    point = one.points.take([with_words(one, row)])
    await flip(one.world, one.name, point, "words", last + random.randrange(10, 20))


async def no_sparse(one: Filled, row: int, _random: Random) -> None:
    await with_vector(one, with_words(one, row), "words", None)


async def empty_sparse(one: Filled, row: int, _random: Random) -> None:
    await with_vector(one, with_words(one, row), "words", encode_sparse([], []))


async def with_vector(one: Filled, row: int, name: str, vector: bytes | None) -> None:
    """Give a point another vector."""
    changed = one.points.take([row])
    changed.vectors[name][0] = vector
    await one.world.store.upsert(one.name, changed)


async def one_renamed(one: Filled, row: int, random: Random) -> None:
    await one_more(one, row, random)
    await one_less(one, row, random)


async def other_type_of_index(one: Filled, _row: int, _random: Random) -> None:
    await drop_index(one.world, one.name, "n")
    await one.world.store.create(one.name, indexed(n={"type": "float"}))


async def other_parameters_of_index(one: Filled, _row: int, _random: Random) -> None:
    await drop_index(one.world, one.name, "n")
    asked = {**INDEXED.indexes["n"], "range": False}
    await one.world.store.create(one.name, indexed(n=asked))


def indexed(**indexes: dict[str, Any]) -> CollectionSchema:
    """A schema for documents with these indexes."""
    return CollectionSchema(DOCS.vectors, indexes)


INDEXED = indexed(
    source_id={"type": "keyword"},
    n={"type": "integer", "lookup": False, "range": True},
    third={"type": "float"},
)
OF_INDEXES: list[Fault] = [no_index, other_type_of_index, other_parameters_of_index]
OF_ALL: list[Fault] = [one_payload, one_less, one_more, one_renamed]
FAULTS = [
    *((DOCS, fault) for fault in (flip_dense, no_index, *OF_ALL)),
    *((CODE, fault) for fault in (flip_named, flip_sparse_value, flip_sparse_index)),
    *((CODE, fault) for fault in (no_sparse, empty_sparse, *OF_ALL)),
    *((INDEXED, fault) for fault in OF_INDEXES),
]
NAMES = {id(DOCS): "documents", id(CODE): "code", id(INDEXED): "several indexes"}
SAID: dict[Fault, str] = {
    no_index: "the index of 'source_id' is missing",
    other_type_of_index: "the index of 'n' has other parameters than recorded",
    other_parameters_of_index: "the index of 'n' has other parameters than recorded",
}
COUNTS: dict[Fault, dict[str, int]] = {
    one_less: {"missing": 1},
    one_more: {"extra": 1},
    one_renamed: {"missing": 1, "extra": 1},
    **{fault: {"schema": 1} for fault in SAID},
}
"""What a verification finds of a fault; one changed point otherwise."""


@pytest.mark.parametrize(
    ("schema", "fault"), FAULTS, ids=lambda v: v.__name__ if callable(v) else NAMES[id(v)]
)
async def test_every_single_fault_is_found_and_repaired(
    world: World, schema: CollectionSchema, fault: Fault
) -> None:
    one, random = await filled(world, schema), Random(4)
    description = await world.store.describe(one.name)
    for _ in range(4):
        before = len(await one.repairs())
        await fault(one, random.randrange(58), random)
        found = await world.verify(one.name)
        assert counts_of(found) == COUNTS.get(fault, {"changed": 1})
        assert found.schema == ([SAID[fault]] if fault in SAID else [])
        done = await one.repair()
        await one.is_right()
        assert await world.store.describe(one.name) == description
        assert done.points == found.missing + found.extra + found.changed
        assert done.schema == tuple(found.schema)
        assert len(await one.repairs()) == before + bool(done.points)


def counts_of(found: Verification) -> dict[str, int]:
    """The differences that there are, by kind."""
    counts = {kind: getattr(found, kind) for kind in ("missing", "extra", "changed")}
    counts["schema"] = len(found.schema)
    return {kind: count for kind, count in counts.items() if count}


NUMBERS = np.random.default_rng(2).standard_normal((9, 5, 3)).astype(np.float32)
NUMBERS[:, 2] = 0.0
ROWS = [encode_dense(rows) for rows in NUMBERS]
"""Five rows of three numbers for each point, the third row of zeros."""

ZERO, WORDS, NO_WORDS = bytes(3 * 4), encode_sparse([3, 7], [0.5, -2.0]), encode_sparse([], [])


def turned(vector: bytes, bit: int) -> bytes:
    """A vector with one bit turned over."""
    changed = bytearray(vector)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def of(row: int, bit: int = 0) -> int:
    """A bit of a row of three numbers; the sign is the last of a number."""
    return row * 96 + bit


SIGN, LAST_SIGN, EXPONENT = 31, 95, 30
Change = tuple[bytes | None, bytes | None]
VECTORS: dict[str, tuple[VectorSpec, list[Change]]] = {
    "a vector of zeros": (
        VectorSpec(VectorKind.DENSE, 3, Distance.COSINE),
        [(ZERO, turned(ZERO, bit)) for bit in (SIGN, LAST_SIGN, EXPONENT)],
    ),
    "a vector of rows": (
        VectorSpec(VectorKind.MULTI, 3, Distance.DOT),
        [
            *((ROWS[0], turned(ROWS[0], of(row))) for row in (0, 1, 4)),
            (ROWS[1], turned(ROWS[1], of(4, LAST_SIGN))),
            *((ROWS[2], turned(ROWS[2], of(2, bit))) for bit in (SIGN, LAST_SIGN, EXPONENT)),
            (ROWS[3], ROWS[3][:12] + ZERO + ROWS[3][24:]),  # a row becomes zeros
            (ROWS[4], ROWS[4][:24] + ROWS[4][36:]),  # that of zeros is gone
            (ROWS[5], ROWS[5] + ZERO),
        ],
    ),
    "a sparse vector": (
        VectorSpec(VectorKind.SPARSE),
        [
            (WORDS, NO_WORDS),
            (WORDS, None),
            (NO_WORDS, None),
            (NO_WORDS, WORDS),
            (None, NO_WORDS),
            (None, WORDS),
            (WORDS, encode_sparse([3], [0.5])),
            (WORDS, encode_sparse([3, 8], [0.5, -2.0])),
            (WORDS, encode_sparse([3, 7], [0.5, 2.0])),
        ],
    ),
}
"""Vectors as they are recorded, and what becomes of them in the store."""


@pytest.mark.parametrize("name", VECTORS)
async def test_what_becomes_of_one_vector_is_found_and_repaired(world: World, name: str) -> None:
    spec, changes = VECTORS[name]
    points = document_points(["1"] * len(changes))
    points.vectors.clear()
    points.vectors["it"] = [before for before, _ in changes]
    one = await filled(world, CollectionSchema({"it": spec}), points)
    assert (await world.verify(one.name)).equal
    rows = {key: row for row, key in enumerate(one.points.keys)}
    for key, (before, after) in zip(points.keys, changes, strict=True):
        assert one.points.vectors["it"][rows[key]] == before
        await with_vector(one, rows[key], "it", after)
        found = await world.verify(one.name)
        assert counts_of(found) == {"changed": 1}
        assert found.examples == {"changed": [id_of(key)]}
        assert (await one.repair()).points == 1
        await one.is_right()
