"""The comparison of two sides in pages finds what a comparison of two dictionaries finds."""

import asyncio
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from domain.model.points import Digest, id_of, key_of
from domain.use_cases.merge import Page, Side, merge
from domain.use_cases.verify import EXAMPLES, Verification

KEYS = st.integers(0, 30)
POINTS = st.dictionaries(KEYS, st.sampled_from([b"a" * 16, b"b" * 16]))


async def pages(points: dict[int, bytes], size: int) -> AsyncIterator[Page]:
    """The points in pages; some are empty, as after a filter."""
    keys = sorted(points)
    for start in range(0, len(keys), size):
        some = keys[start : start + size]
        yield [key_of(key) for key in some], [points[key] for key in some]
        yield [], []


def digest(points: dict[int, bytes]) -> str:
    found = Digest()
    for key in sorted(points):
        found.add(key_of(key), points[key])
    return found.hexdigest()


async def note_all(there: Side, ours: Side, found: Verification) -> None:
    async for kind, key in merge(there, ours):
        found.note(kind, key)


@given(
    POINTS, st.sets(KEYS, max_size=3), POINTS | st.just({}), st.integers(1, 9), st.integers(1, 9)
)
def test_what_differs_is_found(
    recorded: dict[int, bytes], gone: set[int], others: dict[int, bytes], size: int, other: int
) -> None:
    stored = {key: hash_ for key, hash_ in recorded.items() if key not in gone} | others
    found = Verification("c")
    there, ours = Side(pages(stored, size)), Side(pages(recorded, other))
    asyncio.run(note_all(there, ours, found))
    missing = sorted(recorded.keys() - stored.keys())
    extra = sorted(stored.keys() - recorded.keys())
    changed = sorted(k for k in stored.keys() & recorded.keys() if stored[k] != recorded[k])
    assert (found.missing, found.extra, found.changed) == (len(missing), len(extra), len(changed))
    for kind, keys in (("missing", missing), ("extra", extra), ("changed", changed)):
        ids = [id_of(key_of(key)) for key in keys]
        assert found.examples.get(kind, []) == ids[:EXAMPLES]
    assert (there.digest.hexdigest(), there.digest.points) == (digest(stored), len(stored))
    assert (ours.digest.hexdigest(), ours.digest.points) == (digest(recorded), len(recorded))
