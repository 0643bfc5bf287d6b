"""Which witnesses the ledger contradicts, and how that is said."""

import pytest

from domain.model.recorded import Cursor
from domain.model.timeline import Finding, Standing, Timeline, Witness, contradicted, summary

HEAD = Cursor(640, b"h" * 32)
STANDING = Standing("ledger", 2)


def witness(position: int = 100, timeline: int | None = 2) -> Witness:
    return Witness("topic t[3]", position, "ab" * 32, timeline, "ledger")


@pytest.mark.parametrize("timeline", [2, None])
def test_what_the_ledger_has_is_right(timeline: int | None) -> None:
    assert contradicted(witness(timeline=timeline), STANDING, HEAD, known=True) is None


@pytest.mark.parametrize("position", [100, 900])
def test_a_timeline_that_is_over_does_not_count(position: int) -> None:
    assert contradicted(witness(position, timeline=1), STANDING, HEAD, known=False) is None


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (witness(641), "topic t[3] is at position 641, and the ledger ends at 640"),
        (witness(641, None), "topic t[3] is at position 641, and the ledger ends at 640"),
        (witness(640), "topic t[3] has another event at position 640 than the ledger"),
        (witness(1, 3), "topic t[3] is of timeline 3, and the ledger is on timeline 2"),
    ],
)
def test_what_is_wrong_is_said(said: Witness, says: str) -> None:
    assert contradicted(said, STANDING, HEAD, known=False) == says


def test_a_later_timeline_is_wrong_even_with_an_event_that_the_ledger_has() -> None:
    assert contradicted(witness(1, 3), STANDING, HEAD, known=True) is not None


def finding(number: int) -> Finding:
    return Finding(f"w{number}", number, "", 1, f"w{number} is wrong", ("s", "c"))


def test_findings_come_back_from_json() -> None:
    assert Finding.from_json(finding(1).to_json()) == finding(1)


def test_the_first_findings_are_named_and_the_others_counted() -> None:
    assert summary([finding(1)]) == "w1 is wrong"
    assert summary([finding(n) for n in range(3)]) == "w0 is wrong; w1 is wrong; w2 is wrong"
    assert summary([finding(n) for n in range(5)]).endswith("; w2 is wrong; and 2 more")


def test_a_cursor_is_a_witness_of_its_event() -> None:
    assert Witness.of("cursor relay", HEAD).cursor == HEAD


def test_a_timeline_is_a_stream_of_its_own_and_ends() -> None:
    timeline = Timeline(2, 640, "ab" * 32, [finding(1).to_json()])
    assert timeline.id == Timeline.create_id(2) != Timeline.create_id(3)
    assert timeline.found == [finding(1)]
    assert not timeline.recovered
    timeline.finish({"collections": 1})
    assert timeline.recovered
