"""Files of points become writes, a batch at a time; what is wrong names the line."""

import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.files import read_points
from adapters.files.parquet import ParquetFile
from adapters.files.read_points import STDIN, read_writes
from domain.model.errors import DiskFull, InvalidPoint, Rejected
from domain.model.points import (
    PointBatch,
    encode_dense,
    encode_payload,
    encode_sparse,
    id_of,
    key_of,
)
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases.write_points import Delete, SetPayload, Upsert

PLAIN = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 2, Distance.DOT)})
EVERYTHING = CollectionSchema(
    {
        "": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE),
        "late": VectorSpec(VectorKind.MULTI, 3, Distance.DOT),
        "words": VectorSpec(VectorKind.SPARSE),
    }
)


def lines(folder: Path, documents: Sequence[Any]) -> str:
    path = folder / "points.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(document) for document in documents) + b"\n\n")
    return str(path)


def table(folder: Path, **columns: Any) -> str:
    path = folder / "points.parquet"
    pq.write_table(pa.table({name.replace("__", ":"): v for name, v in columns.items()}), path)
    return str(path)


def test_lines_come_in_batches(tmp_path: Path) -> None:
    documents = [{"id": n, "payload": {"n": n}, "vector": [n, n]} for n in range(5)]
    writes = list(read_writes("upsert", lines(tmp_path, documents), PLAIN, 2))
    sizes = [len(w.points) for w in writes if isinstance(w, Upsert)]
    assert sizes == [2, 2, 1]
    [deleting] = read_writes("delete", lines(tmp_path, [1, {"id": 2}]), PLAIN, 9)
    assert deleting == Delete([key_of(1), key_of(2)])
    [setting] = read_writes(
        "set-payload", lines(tmp_path, [{"id": 1, "payload": {"a": 1}}]), PLAIN, 9
    )
    assert setting == SetPayload({key_of(1): {"a": 1}})


def test_long_lines_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_points, "BATCH_BYTES", 150)
    documents = [{"id": n, "payload": {"t": "x" * 60}, "vector": [n, n]} for n in range(5)]
    writes = list(read_writes("upsert", lines(tmp_path, documents), PLAIN, 500))
    assert [len(w.points) for w in writes if isinstance(w, Upsert)] == [2, 2, 1]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1\n\n2\n")))
    assert list(read_writes("delete", STDIN, PLAIN, 1)) == [
        Delete([key_of(1)]),
        Delete([key_of(2)]),
    ]


def test_standard_input_is_a_pipe_of_either_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can go back in a pipe, and its first bytes may be all that is there."""
    path = Path(table(tmp_path, id=[7, 8], vector=[[1.0, 2.0], [3.0, 4.0]]))
    for content in (path.read_bytes(), b"7\n8", b'\n\r\n{"id": 7}\n8\n'):
        with piped(content) as pipe:
            monkeypatch.setattr(sys, "stdin", pipe)
            [write] = read_writes("delete", STDIN, PLAIN, 10)
        assert write == Delete([key_of(7), key_of(8)])
    with piped(b"") as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        assert not list(read_writes("delete", STDIN, PLAIN, 10))


@contextmanager
def piped(content: bytes) -> Iterator[IO[str]]:
    """A pipe that has this content, which must fit into one."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(content)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        yield pipe


def test_parquet_of_standard_input_needs_room_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(table(tmp_path, id=[7])).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    monkeypatch.setattr(read_points, "TemporaryFile", partial(Path("/dev/full").open, "w+b"))
    with pytest.raises(DiskFull, match="folder for temporary files: No space left on device"):
        list(read_writes("delete", STDIN, PLAIN, 10))


def test_what_is_wrong_with_parquet_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"PAR1 but not really")))
    with pytest.raises(Rejected, match="standard input cannot be read as Parquet"):
        list(read_writes("delete", STDIN, PLAIN, 10))


def test_wrong_lines_are_named_and_those_before_come(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    path.write_bytes(b'{"id": 1, "vector": [1, 2]}\n\n{"id": 2, "vector": [1]}\n')
    writes = read_writes("upsert", str(path), PLAIN, 1)
    assert isinstance(next(writes), Upsert)
    with pytest.raises(InvalidPoint, match=r"points\.jsonl, from line 2: point 2: unnamed"):
        next(writes)
    path.write_bytes(b"1\n2\n{]\n")
    with pytest.raises(InvalidPoint, match=r"points\.jsonl, line 3 is not JSON"):
        list(read_writes("delete", str(path), PLAIN, 500))
    with pytest.raises(Rejected, match=r"nothing\.jsonl cannot be read: No such file"):
        list(read_writes("delete", str(tmp_path / "nothing.jsonl"), PLAIN, 500))


async def test_what_was_taken_out_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    numbers = np.random.default_rng(5)
    count = 30
    unit = numbers.standard_normal((count, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    points = PointBatch(
        keys=[key_of(n) for n in range(count)],
        payloads=[encode_payload({"n": n, "f": n / 3}) for n in range(count)],
        vectors={
            "": [encode_dense(unit[n]) if n % 4 else None for n in range(count)],
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
    path = tmp_path / "then.parquet"
    async with ParquetFile(path, EVERYTHING) as file:
        await file.write(points)
    writes = list(read_writes("upsert", str(path), EVERYTHING, 8))
    found = PointBatch.concatenate([w.points for w in writes if isinstance(w, Upsert)])
    assert found == points
    [deleting] = read_writes("delete", str(path), EVERYTHING, 100)
    assert deleting == Delete(points.keys)
    [setting] = read_writes("set-payload", str(path), EVERYTHING, 100)
    assert isinstance(setting, SetPayload)
    assert setting.payloads[key_of(4)] == {"n": 4, "f": 4 / 3}


def test_parquet_as_others_write_it(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        id=pa.array([1, 2, 1], pa.int64()),
        payload=pa.array(['{"n": 1}', None, '{"n": 3}']),
        vector=pa.array([[1.0, 2.0], [3.0, 4.0], None], pa.list_(pa.float64())),
    )
    [write] = read_writes("upsert", path, PLAIN, 10)
    assert isinstance(write, Upsert)
    assert [id_of(key) for key in write.points.keys] == [1, 2]
    assert write.points.payloads == [b'{"n":3}', b"{}"]
    assert write.points.vectors[""] == [None, encode_dense([3.0, 4.0])]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"vector": [[1.0, 2.0]]}, "has no column 'id'; it has vector"),
        ({"id": [1], "payload": ["{}"]}, "has no vectors; there may be columns vector"),
        ({"id": [1], "vector": [[1.0, 2.0]], "vector__x": [[1.0]]}, "column 'vector:x', and the"),
        ({"id": [1], "vector": [[1.0]]}, "from row 1: point 1: unnamed vector is 1 num.* takes 2"),
        (
            {"id": [1, 2, 3], "vector": [[1.0, 2.0], None, [1.0, 2.0, 3.0]]},
            "from row 1: point 3: unnamed vector is 3 numbers, and the collection takes 2 numbers",
        ),
        ({"id": [1], "vector": [[1.0, None]]}, "from row 1: unnamed vector has null for a number"),
        ({"id": [1], "vector": [["a", "b"]]}, "column 'vector' is list"),
        ({"id": [1], "vector": ["text"]}, "column 'vector' is string, and .* dense 2 dot"),
        ({"id": [1], "vector": [[1.0, float("nan")]]}, "point 1: unnamed vector has NaN"),
        ({"id": [-1], "vector": [[1.0, 2.0]]}, "from row 1: point id -1"),
        ({"id": ["x"], "vector": [[1.0, 2.0]]}, "from row 1: point id 'x'"),
        ({"id": [1], "payload": ["["], "vector": [[1.0, 2.0]]}, "a payload is not JSON text"),
        ({"id": [1], "payload": ["1"], "vector": [[1.0, 2.0]]}, "a payload is not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path: Path, columns: Any, words: str) -> None:
    path = table(tmp_path, **columns)
    with pytest.raises(Rejected, match=words):
        list(read_writes("upsert", path, PLAIN, 10))


def test_what_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but not really")
    for name in ("x.parquet", "nothing.parquet"):
        with pytest.raises(Rejected, match=f"{name} cannot be read as Parquet"):
            list(read_writes("delete", str(tmp_path / name), PLAIN, 10))


@pytest.mark.parametrize("at", [0.3, 0.6])
def test_a_page_that_is_damaged_is_named(tmp_path: Path, at: float) -> None:
    file = Path(table(tmp_path, id=list(range(9000)), payload=['{"a": 1}'] * 9000))
    content = bytearray(file.read_bytes())
    begin = int(len(content) * at)
    content[begin : begin + 64] = b"\xff" * 64
    file.write_bytes(content)
    with pytest.raises(Rejected, match=f"{file.name} cannot be read as Parquet"):
        list(read_writes("set-payload", str(file), PLAIN, 10_000))


def test_text_that_is_none_is_named(tmp_path: Path) -> None:
    column = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    file = tmp_path / "points.parquet"
    pq.write_table(pa.table({"id": [1], "payload": column}), file)
    with pytest.raises(Rejected, match=r"points\.parquet"):
        list(read_writes("set-payload", str(file), PLAIN, 10))


def test_a_number_that_is_no_id_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, id=["9" * 5000])
    with pytest.raises(Rejected, match=r"points\.parquet, from row 1"):
        list(read_writes("delete", path, PLAIN, 10))


@pytest.mark.parametrize("place", ["/proc/then.parquet"])
async def test_a_place_that_cannot_be_written_is_named(place: str) -> None:
    with pytest.raises(Rejected, match=f"{place} cannot be written"):
        async with ParquetFile(Path(place), PLAIN):
            pass


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


async def test_a_file_gets_its_name_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "then.parquet"
    async with ParquetFile(path, PLAIN):
        pass
    assert names(tmp_path) == [path.name]
    second = ParquetFile(tmp_path / "other.parquet", PLAIN)
    with pytest.raises(Rejected, match="exists by now"):
        async with second:
            (tmp_path / "other.parquet").write_bytes(b"of somebody else")
    assert (tmp_path / "other.parquet").read_bytes() == b"of somebody else"
