"""Names of collections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model.errors import Rejected
from domain.model.names import MAX_NAME, default_name, next_generation, problem_with, sanitise
from tests.builders import few_examples


@pytest.mark.parametrize(
    ("title", "stem"),
    [
        ("AI Knowledge", "AI_Knowledge"),
        ("Réseau & Internet", "Reseau_Internet"),
        ("ÀÉÎõü", "AEIou"),
        ("  --padded--  ", "padded"),
        ("a_b__c", "a_b_c"),
        ("\ufb01le", "file"),
        ("Mixed CASE kept", "Mixed_CASE_kept"),
        ("2024 / Q1", "2024_Q1"),
        ("日本語", ""),
        ("日本語 docs", "docs"),
        ("!?", ""),
        ("", ""),
    ],
)
def test_titles_are_sanitised(title: str, stem: str) -> None:
    assert sanitise(title) == stem


@few_examples
@given(st.text())
def test_sanitised_titles_are_plain_and_stay_so(title: str) -> None:
    stem = sanitise(title)
    assert all(c.isascii() and (c.isalnum() or c == "_") for c in stem)
    assert not stem.startswith("_")
    assert not stem.endswith("_")
    assert "__" not in stem
    assert sanitise(stem) == stem


def test_the_default_name_is_title_and_type() -> None:
    assert default_name("AI Knowledge", "documents") == "AI_Knowledge_documents"


def test_a_title_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(Rejected, match=r"'日本語'.*store a name for 'documents'"):
        default_name("日本語", "documents")


@pytest.mark.parametrize("name", ["a", "Ünï code", "x" * MAX_NAME, "with.dot-and_dash", " "])
def test_names_that_qdrant_takes(name: str) -> None:
    assert problem_with(name) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "empty"),
        ("x" * (MAX_NAME + 1), "longer than 255"),
        *((f"a{c}b", "forbidden character") for c in '<>:"/\\|?*\0'),
    ],
)
def test_names_that_qdrant_refuses(name: str, problem: str) -> None:
    assert problem in (problem_with(name) or "")


def test_generations_are_numbered_from_one_and_take_the_first_gap() -> None:
    assert next_generation("docs", set()) == "docs__g1"
    assert next_generation("docs", {"docs__g1", "docs", "other__g2"}) == "docs__g2"
    assert next_generation("docs", {"docs__g1", "docs__g3"}) == "docs__g2"


@few_examples
@given(st.sets(st.integers(1, 6)))
def test_a_generation_is_never_taken(numbers: set[int]) -> None:
    taken = {f"docs__g{number}" for number in numbers}
    assert next_generation("docs", taken) not in taken
