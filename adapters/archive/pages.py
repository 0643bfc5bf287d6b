"""Streams in pages."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_pages(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Rows in lists of this size; the last one may be shorter."""
    remaining = iter(rows)
    while page := list(islice(remaining, size)):
        yield page
