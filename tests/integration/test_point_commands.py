"""`points upsert`, `set-payload` and `delete` write what files and standard input say."""

import asyncio
import sys
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domain.model.canonical import points_of
from domain.model.points import FLOAT32, PointBatch
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from tests.docs.pages import ROOT, snippets_of
from tests.e2e.program import Ended
from tests.integration.builders import CODE, code_points
from tests.integration.commands import run
from tests.integration.worlds import STORE, World
from tests.integration.writers import payloads

pytestmark = pytest.mark.usefixtures("world_settings", "typed_here")

Documents = list[dict[str, Any]]

HOW_TO = ROOT / "docs" / "how-to" / "write-points.md"
FORMATS = ("jsonl", "parquet")
WAYS = ("file", "standard input")
TYPES = {
    "id": pa.int64(),
    "payload": pa.string(),
    "text": pa.list_(pa.float32()),
    "words": pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))]),
}


def encoded(form: str, documents: Documents) -> bytes:
    """What a file of this format has for points, or for parts of points."""
    if form == "jsonl":
        return b"".join(orjson.dumps(document) + b"\n" for document in documents)
    columns = {}
    if "payload" in documents[0]:
        columns["payload"] = [orjson.dumps(one["payload"]).decode() for one in documents]
    for name in documents[0].get("vector", {}):
        columns[f"vector:{name}"] = [one["vector"].get(name) for one in documents]
    columns["id"] = [one["id"] for one in documents]
    typed = {n: pa.array(v, TYPES[n.removeprefix("vector:")]) for n, v in columns.items()}
    content = BytesIO()
    pq.write_table(pa.table(typed), content)
    return content.getvalue()


async def write(kind: str, name: str, form: str, way: str, documents: Documents) -> Ended:
    """Run a command with points from a file, or from standard input."""
    content = encoded(form, documents)
    how = ("--store", STORE, "--batch", "3", "--json")
    if way == "standard input":
        return await run("points", kind, name, "-", *how, stdin=content)
    return await run("points", kind, name, file(f"points.{form}", content), *how)


def file(name: str, content: bytes) -> str:
    """A file of this name where commands are run."""
    Path(name).write_bytes(content)
    return name


def new_points(first: int) -> Documents:
    """Four points; the numbers of their vectors are such as float32 holds."""
    numbers = np.random.default_rng(first)
    vectors = numbers.standard_normal((4, 6)).astype(FLOAT32).tolist()
    return [
        {
            "id": first + n,
            "payload": {"text": f"été {n}", "n": n / 3, "deep": {"list": [n, None]}},
            "vector": {"text": vector, "words": {"indices": [n, 90], "values": [0.5, -2.0]}},
        }
        for n, vector in enumerate(vectors)
    ]


async def looked_after(
    world: World, schema: CollectionSchema = CODE, points: PointBatch | None = None
) -> str:
    """A collection, by default with two points that nobody writes to here; returns its name."""
    generation = await world.generation("typed", schema)
    await world.write(generation, points or code_points(["1", "2"]))
    async with world.applier():
        await world.applied(generation)
    return world.named("typed")


async def test_each_command_takes_each_format_from_a_file_and_from_standard_input(
    world: World,
) -> None:
    name = await looked_after(world)
    before = await world.points(name)
    expected: Documents = []
    for number, (form, way) in enumerate(product(FORMATS, WAYS)):
        documents = new_points(1000 * (number + 1))
        fields = [{"id": one["id"], "payload": {"text": "read", "by": form}} for one in documents]
        for kind, given, changes in (
            ("upsert", documents, {"upserted": 4, "deleted": 0}),
            ("set-payload", fields[:2], {"upserted": 2, "deleted": 0}),
            ("delete", [{"id": documents[3]["id"]}], {"upserted": 0, "deleted": 1}),
        ):
            ended = await write(kind, name, form, way, given)
            assert ended.status == 0, (kind, form, way, ended.err)
            counts = {"points": len(given), "writes": -(-len(given) // 3), **changes}
            assert counts.items() <= ended.document.items(), (kind, form, way)
        for one in documents[:2]:
            one["payload"] |= {"text": "read", "by": form}
        expected += documents[:3]

    async with world.applier():
        await world.applied((await world.looked_after(name)).generation)
    after = await world.points(name)
    written = points_of(CODE, expected)
    assert dict(zip(after.keys, after.hashes(), strict=True)) == {
        **dict(zip(before.keys, before.hashes(), strict=True)),
        **dict(zip(written.keys, written.hashes(), strict=True)),
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMATS)
async def test_a_vector_of_another_dimension_is_refused_and_nothing_is_recorded(
    world: World, form: str, way: str
) -> None:
    name = await looked_after(world)
    documents = new_points(1000)[:3]
    documents[1]["vector"]["text"].append(0.5)
    head = await world.ledger.head()

    ended = await write("upsert", name, form, way, documents)

    assert ended.status == 2
    assert ended.document["error"] == "InvalidPoint"
    assert (
        "point 1001: vector 'text' is 7 numbers, and the collection takes 6 numbers"
        in ended.document["message"]
    )
    assert await world.ledger.head() == head


async def test_the_how_to_writes_from_python(world: World, tmp_path: Path) -> None:
    schema = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 3, Distance.COSINE)})
    first = {"id": 1, "vector": [0.0, 1.0, 0.0]}
    name = await looked_after(world, schema, points_of(schema, [first]))
    [script] = [one.text for one in snippets_of(HOW_TO) if one.language == "python"]
    place = 'DEFAULT, "documents"'
    assert place in script

    for _ in range(2):  # with the same key it counts once
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script.replace(place, f"{STORE!r}, {name!r}")),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        assert int(said) == (await world.ledger.head()).position

    [event] = await world.ledger.read(int(said) - 1, 1)
    assert event.context.reason == "OPS-412"
    async with world.applier():
        await world.applied((await world.looked_after(name)).generation)
    assert (await payloads(world, name))[7] == {"source_id": "1"}
