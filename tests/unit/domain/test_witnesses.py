"""What collections say of the ledger, and what is not said any more."""

from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from domain.model.errors import Corrupt, Unavailable
from domain.model.recorded import Recorded
from domain.model.timeline import Standing
from domain.ports import Ledger, Stores
from domain.use_cases.witnesses import Witnesses


class Store:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def store(self, _: str) -> "Store":
        return self

    async def read_witness(self, _: str) -> None:
        return None

    async def write_witness(self, physical: str, _: Any) -> None:
        self.told.append(physical)


class AwayOnce:
    """Is away the first time, while something happens."""

    def __init__(self) -> None:
        self.meanwhile: Any = None

    async def verify_cursor(self, _: Any) -> None:
        return None

    async def standing(self) -> Standing:
        if self.meanwhile is not None:
            self.meanwhile()
            self.meanwhile = None
            raise Unavailable("the ledger is away")
        return Standing("a ledger", 1)


def change(stream: Any) -> Recorded:
    return cast("Recorded", SimpleNamespace(stream=stream, position=3, hash=b"", version=2))


async def test_a_collection_that_went_while_a_try_failed_is_not_told_the_next_time() -> None:
    """Its name may be an alias of another one by then."""
    ledger, store, gone, there = AwayOnce(), Store(), uuid4(), uuid4()
    witnesses = Witnesses(cast("Ledger", ledger), cast("Stores", store))
    witnesses.changed("prod", "gone", change(gone))
    witnesses.changed("prod", "there", change(there))
    ledger.meanwhile = lambda: witnesses.gone(gone)

    assert not await witnesses.finish()
    assert store.told == []
    assert await witnesses.finish()

    assert store.told == ["there"]


class Recovered:
    """Begins another timeline, on which it lacks what came before."""

    def __init__(self) -> None:
        self.timeline = 1
        self.lacks = False

    async def verify_cursor(self, _: Any) -> None:
        if self.lacks:
            raise Corrupt("the ledger ends before")

    async def standing(self) -> Standing:
        return Standing("a ledger", self.timeline)


@pytest.mark.parametrize(
    ("timeline", "lacks", "told"), [(1, True, ["docs"]), (2, False, ["docs"]), (2, True, [])]
)
async def test_what_a_recovery_has_ended_is_not_told(
    timeline: int, *, lacks: bool, told: list[str]
) -> None:
    """On the new timeline it would speak against the ledger, and halt all work again."""
    ledger, store = Recovered(), Store()
    witnesses = Witnesses(cast("Ledger", ledger), cast("Stores", store))
    assert await witnesses.finish()
    witnesses.changed("prod", "docs", change(uuid4()))
    ledger.timeline, ledger.lacks = timeline, lacks

    assert await witnesses.finish()

    assert store.told == told
