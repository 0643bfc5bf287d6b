"""Tables of benches say what was reached, and only that."""

import importlib

import pytest

from bench.__main__ import BENCHES, page
from bench.report import Report, Row, least, limit


@pytest.mark.parametrize(
    ("ratio", "aim", "reached"),
    [(3.0, 3.0, "yes"), (2.99, 3.0, "no"), (2.0, None, ""), (None, 3.0, "")],
)
def test_a_row_says_whether_its_aim_was_reached(
    ratio: float | None, aim: float | None, reached: str
) -> None:
    assert Row("appends", "3 s", "9 s", ratio, aim).cells()[-1] == reached


def test_limits_are_ratios_above_one_where_they_are_kept() -> None:
    assert limit("p99", 50.0, 100.0, "ms").cells() == (
        *("p99", "50 ms", "at most 100 ms"),
        *("2.00", "≥ 1", "yes"),
    )
    assert limit("p99", 200.0, 100.0, "ms").reached is False
    assert least("events", 120_000.0, 100_000.0, "events/s").cells() == (
        *("events", "120,000 events/s", "at least 100,000 events/s"),
        *("1.20", "≥ 1", "yes"),
    )
    assert least("events", 99_999.0, 100_000.0, "events/s").reached is False


def test_the_page_has_the_machine_and_every_report() -> None:
    reports = [Report(title, [Row("a", "1 s")], ["How."]) for title in ("One", "Two")]
    text = page(reports, [("cores", "2")])
    assert "| cores | 2 |" in text
    assert text.index("## One") < text.index("| a | 1 s |") < text.index("How.")
    assert text.index("How.") < text.index("## Two")
    assert text.endswith("How.\n")


@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_keeps_the_contract(name: str) -> None:
    bench = importlib.import_module(f"bench.{name}")
    assert name == bench.NAME
    assert bench.__doc__
    assert bench.run.__kwdefaults__ == {"quick": False}
