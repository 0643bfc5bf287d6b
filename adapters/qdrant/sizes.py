"""How many points go into one call, and how many calls at a time."""

from collections.abc import Iterator, Mapping, Sequence

from adapters.qdrant.encoding import Column
from domain.model.points import PointBatch
from domain.model.schema import VectorKind

CALL_POINTS = 500
CALL_BYTES = 16 * 2**20
IN_FLIGHT = 4
"""Calls of one operation at a time."""

_FLOAT_SIZE = 4
_PAYLOAD_GUESS = 1_024  # bytes, before the first answer tells
_SPARSE_GUESS = 1_024
_ROWS_GUESS = 32  # of a multi vector


def chunks(points: PointBatch, limit: int = CALL_POINTS) -> Iterator[range]:
    """Rows of a batch in runs of at most `limit` points and `CALL_BYTES`.

    A point that is larger than that goes alone.
    """
    start, size = 0, 0
    for row in range(len(points)):
        row_size = len(points.payloads[row]) + sum(
            len(column[row] or b"") for column in points.vectors.values()
        )
        if row > start and (row - start == limit or size + row_size > CALL_BYTES):
            yield range(start, row)
            start, size = row, 0
        size += row_size
    if start < len(points):
        yield range(start, len(points))


def runs(keys: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """Keys in runs of `size`."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def spans(count: int, size: int) -> Iterator[range]:
    """So many rows in runs of `size`."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def expected_point_bytes(columns: Mapping[str, Column]) -> int:
    """A guess of what one point takes in an answer."""
    total = _PAYLOAD_GUESS
    for column in columns.values():
        rows = _ROWS_GUESS if column.kind is VectorKind.MULTI else 1
        total += rows * _FLOAT_SIZE * column.dimension or _SPARSE_GUESS
    return total


def page_points(page: int, point_bytes: int) -> int:
    """How many of `page` points fit into an answer of `CALL_BYTES`; at least one."""
    return max(1, min(page, CALL_BYTES // max(point_bytes, 1)))
