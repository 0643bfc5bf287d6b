"""What a drill found decides whether the ledger was brought back as it is."""

from collections.abc import Callable
from typing import Any

import pytest

from adapters.archive.manifest import Lacking
from adapters.cli.drill import Report
from domain.model.recorded import Cursor

HEAD = Cursor(7, bytes(32))


def report(**found: Any) -> Report:
    """Of a drill that found no difference, or only these."""
    whole: dict[str, Any] = {
        "collections": [{"collection": "docs__g1", "equal": True}],
        "views": [{"view": "migrations", "equal": True}],
        "published": 8,
    }
    return Report(HEAD, **{**whole, **found})


@pytest.mark.parametrize(
    ("found", "equal"),
    [
        ({}, True),
        ({"lost": 3, "lost_seconds": 1.5}, True),
        ({"views": [{"view": "migrations", "equal": None}]}, True),
        ({"collections": [{"collection": "docs__g1", "equal": None}]}, True),
        ({"views": [{"view": "migrations", "equal": False}]}, False),
        ({"collections": [{"collection": "docs__g1", "equal": False}]}, False),
        ({"lacking": (Lacking("ab" * 32, manifest=False, why="it is not there"),)}, False),
        ({"published": 6}, False),
    ],
)
def test_one_difference_is_enough(found: dict[str, Any], equal: bool) -> None:  # noqa: FBT001
    assert report(**found).equal is equal
    assert report(**found).to_json()["equal"] is equal


def test_what_was_lost_and_how_long_it_took(ticking: Callable[[], None]) -> None:
    found = report(lost=3, lost_seconds=1.5)
    for phase in ("export", "servers", "import", "compare views", "topics", "compare collections"):
        with found.timed(phase):
            ticking()

    document = found.to_json()
    assert document["rpo"] == {"events": 3, "seconds": 1.5}
    assert document["rto"] == {"seconds": 3.0}
    assert document["phases"]["export"] == 1.0


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A clock that goes on by a second whenever this is called."""
    now = [100.0]
    monkeypatch.setattr("adapters.cli.drill.time.perf_counter", lambda: now[0])

    def tick() -> None:
        now[0] += 1.0

    return tick
