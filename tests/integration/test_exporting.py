"""A version is written to a file from the ledger alone: every bit of it, or no file."""

import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from adapters.files.parquet import METADATA, ParquetFile
from domain.model.errors import Corrupt, ObjectMissing, Rejected
from domain.model.points import (
    PointBatch,
    encode_dense,
    encode_payload,
    encode_sparse,
    key_of,
)
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases import gather
from domain.use_cases.export_version import export_version
from domain.use_cases.tools import Tools, recorded_schema
from domain.use_cases.versions import Place, digest_at, find_version, tag_version
from tests.disks import small_disk
from tests.integration.builders import CODE, code_points, document_points
from tests.integration.faults import Wrapped
from tests.integration.worlds import MARA, STORE, World, eventually

EVERYTHING = CollectionSchema(
    {
        "": VectorSpec(VectorKind.DENSE, 5, Distance.DOT),
        "late": VectorSpec(VectorKind.MULTI, 3, Distance.COSINE),
        "words": VectorSpec(VectorKind.SPARSE),
    }
)


@pytest.fixture(autouse=True)
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file has many row groups."""
    monkeypatch.setattr(gather, "MOST_POINTS", 7)


async def export(world: World, place: Place, path: Path, tools: Tools | None = None) -> str:
    schema = await recorded_schema(world.ledger, place.status.generation)
    async with ParquetFile(path, schema) as file:
        digest = await export_version(tools or world.tools, world.views, place, file.write)
        file.describe({"digest": digest.hexdigest()})
    return f"{digest.points} points {digest.hexdigest()}"


def read(path: Path, schema: CollectionSchema) -> PointBatch:
    """The points of a file, by what its documentation says."""
    table = pq.read_table(path)
    vectors: dict[str, list[bytes | None]] = {}
    for name, spec in schema.vectors.items():
        column = table.column(f"vector:{name}" if name else "vector").to_pylist()
        vectors[name] = [None if v is None else encoded(spec, v) for v in column]
    ids = [int(text) if text.isdecimal() else UUID(text) for text in table["id"].to_pylist()]
    return PointBatch(
        keys=[key_of(one) for one in ids],
        payloads=[encode_payload(orjson.loads(text)) for text in table["payload"].to_pylist()],
        vectors=vectors,
    )


def encoded(spec: VectorSpec, vector: Any) -> bytes:
    if spec.kind is VectorKind.SPARSE:
        return encode_sparse(vector["indices"], vector["values"])
    return encode_dense(vector)


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != "objects"]  # the ledger's


async def test_every_kind_of_vector(world: World, tmp_path: Path) -> None:
    numbers = np.random.default_rng(3)
    count = 40
    points = PointBatch(
        keys=[key_of(n if n % 3 else UUID(int=n << 90)) for n in range(1, count + 1)],
        payloads=[encode_payload({"n": n, "f": n / 3, "\u00e9": None}) for n in range(count)],
        vectors={
            "": [encode_dense(numbers.standard_normal(5)) if n % 4 else None for n in range(count)],
            "late": [
                encode_dense(numbers.standard_normal((1 + n % 3, 3))) if n % 5 else None
                for n in range(count)
            ],
            "words": [
                encode_sparse(numbers.choice(90, n % 6, replace=False), numbers.random(n % 6))
                if n % 7
                else None
                for n in range(count)
            ],
        },
    )
    generation = await world.generation("direct", EVERYTHING)
    await world.write(generation, points)
    place = await find_version(world.tools, STORE, "direct", None)
    path = tmp_path / "then.parquet"

    said = await export(world, place, path)

    found = read(path, EVERYTHING)
    assert found.keys == sorted(points.keys)
    rows = {key: row for row, key in enumerate(points.keys)}
    expected = points.take([rows[key] for key in found.keys])
    assert found == expected
    assert found.hashes() == expected.hashes()
    digest = await digest_at(world.ledger, generation, place.through)
    assert said == f"{count} points {digest.hexdigest()}"
    metadata = pq.read_metadata(path).metadata[METADATA.encode()]
    assert orjson.loads(metadata) == {"digest": digest.hexdigest()}
    assert files(tmp_path) == ["then.parquet"]


async def test_an_earlier_version_whose_store_is_gone(world: World, tmp_path: Path) -> None:
    generation = await world.generation("code", CODE)
    points = code_points(["1"] * 60)
    await world.write(generation, points)
    await tag_version(world.tools, STORE, "code", "first", None, MARA)
    await world.write(generation, code_points(["2"] * 30, seed=7))
    await world.delete(generation, points.keys[40:])
    place = await find_version(world.tools, STORE, "code", "first")

    await export(world, place, tmp_path / "first.parquet")

    assert read(tmp_path / "first.parquet", CODE).hashes() == points.hashes()


async def test_a_version_without_points(world: World, tmp_path: Path) -> None:
    await world.generation("code", CODE)
    place = await find_version(world.tools, STORE, "code", None)
    await export(world, place, tmp_path / "none.parquet")
    assert len(read(tmp_path / "none.parquet", CODE)) == 0


Damage = Callable[[World, str], Awaitable[Tools]]


async def missing(world: World, address: str) -> Tools:
    async def get(asked: str) -> bytes:
        if asked == address:
            raise ObjectMissing(f"object {asked} is missing")
        return await world.tools.objects.get(asked)

    return replace(world.tools, objects=Wrapped(world.tools.objects, get=get))


async def another_row(world: World, _address: str) -> Tools:
    """The ledger names another row of the body for a point."""
    await world.sql('UPDATE migration_ledger.heads SET "row" = 3 WHERE "row" = 4')
    return world.tools


async def one_less(world: World, _address: str) -> Tools:
    """The ledger lost a point, so that the digest is not the one that was noted."""
    await world.sql('UPDATE migration_ledger.heads SET hash = NULL WHERE "row" = 4')
    return world.tools


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (missing, "is missing"),
        (another_row, "does not hold what is recorded"),
        (one_less, "was noted of this version"),
    ],
)
async def test_what_is_not_the_version_leaves_no_file(
    world: World, tmp_path: Path, damage: Damage, says: str
) -> None:
    generation = await world.generation()
    address = await world.write(generation, document_points(["1"] * 30))
    await tag_version(world.tools, STORE, "direct", "noted", None, MARA)
    async with world.workers(projector=True):
        await eventually(lambda: world.views.find("versions"))
    place = await find_version(world.tools, STORE, "direct", "noted")
    tools = await damage(world, address)
    with pytest.raises(Corrupt, match=says):
        await export(world, place, tmp_path / "then.parquet", tools)
    assert files(tmp_path) == []


async def test_a_file_that_exists_or_cannot_be_is_refused(world: World, tmp_path: Path) -> None:
    await world.generation("code", CODE)
    place = await find_version(world.tools, STORE, "code", None)
    (tmp_path / "mine.parquet").write_text("mine")
    with pytest.raises(Rejected, match=r"mine\.parquet exists; choose another"):
        await export(world, place, tmp_path / "mine.parquet")
    assert (tmp_path / "mine.parquet").read_text() == "mine"
    with pytest.raises(Rejected, match="there is no folder"):
        await export(world, place, tmp_path / "nowhere" / "x.parquet")


async def test_who_writes_the_same_name_first_keeps_it(world: World, tmp_path: Path) -> None:
    await world.generation("code", CODE)
    place = await find_version(world.tools, STORE, "code", None)
    path = tmp_path / "then.parquet"

    async def find(*args: Any, **kwargs: Any) -> list[Any]:
        path.write_text("faster")
        return await world.views.find(*args, **kwargs)

    with pytest.raises(Rejected, match="exists by now"):
        async with ParquetFile(path, CODE) as file:
            await export_version(world.tools, Wrapped(world.views, find=find), place, file.write)
    assert path.read_text() == "faster"
    assert files(tmp_path) == ["then.parquet"]


async def test_a_full_disk_is_left_as_it_was(world: World, tmp_path: Path) -> None:
    generation = await world.generation()
    for seed in range(40):
        points = document_points(["1"] * 100, first=100 * seed + 1, seed=seed)
        await world.write(generation, points)
    place = await find_version(world.tools, STORE, "direct", None)
    with small_disk(tmp_path / "disk", 1) as disk:
        disk.fill(leave=65_536)
        free = disk.free
        with pytest.raises(OSError, match="No space left") as full:
            await export(world, place, disk.folder / "then.parquet")
        assert full.value.errno == errno.ENOSPC
        assert [path.name for path in disk.folder.iterdir()] == ["ballast"]
        assert disk.free == free
        disk.make_room()
        await export(world, place, disk.folder / "then.parquet")
