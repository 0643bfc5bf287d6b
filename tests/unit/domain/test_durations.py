"""Durations as people write them."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.model.durations import LONGEST, duration
from domain.model.errors import Rejected


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("90s", timedelta(seconds=90)),
        (" 15 m ", timedelta(minutes=15)),
        ("24h", timedelta(days=1)),
        ("36500d", LONGEST),
    ],
)
def test_a_number_has_a_unit(text: str, means: timedelta) -> None:
    assert duration(text) == means


@pytest.mark.parametrize("text", ["", "7", "-7d", "a week", "36501d", "999999d", "99999999999d"])
def test_what_is_none_or_longer_than_dates_go_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="not a duration such as 90s, 15m, 24h or 7d"):
        duration(text)


def test_the_longest_can_be_added_to_a_date_and_taken_from_it() -> None:
    now = datetime.now(UTC)
    assert now - LONGEST < now < now + LONGEST
