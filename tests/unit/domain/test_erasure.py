"""Which points an erasure is about, where bodies went, and what the aggregate says."""

from uuid import UUID

from domain.model.aggregate import pending_events
from domain.model.erasure import Erasure, Holding, present, together

SHARED, COPY, COPY_OF_COPY, OTHER = (UUID(int=number) for number in range(4))
KEY = b"\x00" + bytes(8)


def holding(generation: UUID, *bodies: tuple[str, int]) -> Holding:
    return Holding(generation, KEY, there=True, bodies=frozenset(bodies))


def test_copies_are_the_same_point_and_so_is_what_became_of_them() -> None:
    shared = holding(SHARED, ("a", 1))
    copy = holding(COPY, ("a", 1), ("b", 7))
    again = holding(COPY_OF_COPY, ("b", 7))
    found = together([again, copy, shared, holding(OTHER, ("c", 1))], [shared.subject])
    assert found == [shared, copy, again]


def test_an_id_that_stands_for_somebody_else_elsewhere_is_another_point() -> None:
    shared, other = holding(SHARED, ("a", 1)), holding(OTHER, ("a", 2))
    assert together([shared, other], [shared.subject]) == [shared]
    assert together([shared, other], [other.subject]) == [other]
    assert together([shared], [other.subject]) == []


def test_what_was_rewritten_may_have_been_rewritten_again() -> None:
    assert present({"a": "b", "b": "c"}, "a") == "c"
    assert present({"a": "b"}, "z") == "z"


def test_it_says_what_was_rewritten_and_ends_once() -> None:
    subjects = {str(SHARED): [7, "00000000-0000-0000-0000-000000000007"], str(COPY): [7, 3]}
    erasure = Erasure(number=1, basis="request 4711", subjects=subjects)
    erasure.rewrite({"a": "b"})
    erasure.rewrite({"c": "d"})
    erasure.finish()
    erasure.finish()
    *_, last = events = pending_events(erasure)
    assert len(events) == 4
    assert isinstance(last, Erasure.SubjectErased)
    assert last.ids == [3, 7, "00000000-0000-0000-0000-000000000007"]
    assert (last.generations, last.objects) == (2, 2)
    assert erasure.id == Erasure.create_id(1) != Erasure.create_id(2)
