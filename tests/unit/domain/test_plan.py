"""Plans: their hash, their JSON, and what drifted between two of them."""

from typing import Any

import orjson
import pytest

from domain.model.plan import Phase, Plan, Step, StepKind

STEP = Step(
    "create", StepKind.CREATE, Phase.CREATION, {"a": 1, "b": {"c": 2, "d": 3}}, "d", "u", "v"
)
PLAN = Plan((STEP,), {"x": {"y": 1}, "z": 2}, {"points": 3}, ("mind this",))


def test_plans_survive_as_json() -> None:
    back = Plan.from_json(orjson.loads(orjson.dumps(PLAN.to_json())))
    assert back == PLAN
    assert back.hash == PLAN.hash
    assert isinstance(back.steps[0].kind, StepKind)
    assert isinstance(back.steps[0].phase, Phase)


def test_the_hash_does_not_depend_on_key_order() -> None:
    turned = Step(
        "create", StepKind.CREATE, Phase.CREATION, {"b": {"d": 3, "c": 2}, "a": 1}, "d", "u", "v"
    )
    assert Plan((turned,), {"z": 2, "x": {"y": 1}}).hash == PLAN.hash


def test_the_hash_does_not_depend_on_estimates_and_notes() -> None:
    assert Plan(PLAN.steps, PLAN.facts, {"points": 4}, ()).hash == PLAN.hash


@pytest.mark.parametrize(
    "other",
    [
        Plan((), PLAN.facts),
        Plan((STEP, STEP), PLAN.facts),
        Plan(PLAN.steps, {"x": {"y": 2}, "z": 2}),
        *(
            Plan((Step(**{**vars(STEP), name: value}),), PLAN.facts)
            for name, value in {
                "id": "other",
                "kind": StepKind.DROP,
                "phase": Phase.BACKUP,
                "params": {"a": 2},
                "does": "x",
                "undo": "x",
                "verify": "x",
            }.items()
        ),
    ],
)
def test_the_hash_depends_on_steps_and_facts(other: Plan) -> None:
    assert other.hash != PLAN.hash


@pytest.mark.parametrize(
    ("before", "after", "drift"),
    [
        ({"a": 1}, {"a": 1}, ()),
        ({"a": 1}, {"a": 2}, ("a was 1 and is 2",)),
        ({"a": {"b": 1}}, {"a": {}}, ("a b is gone",)),
        ({"a": {}}, {"a": {"b": 1}}, ("a b is new",)),
        (
            {"s": {"1": {"t": "old"}, "2": 1}},
            {"s": {"1": {"t": "new"}, "3": 1}},
            ('s 1 t was "old" and is "new"', "s 2 is gone", "s 3 is new"),
        ),
        ({"a": [1, 2]}, {"a": [2, 1]}, ("a was [1,2] and is [2,1]",)),
        ({"a": None}, {"a": {"b": 1}}, ('a was null and is {"b":1}',)),
    ],
)
def test_drift_names_what_changed(
    before: dict[str, Any], after: dict[str, Any], drift: tuple[str, ...]
) -> None:
    assert Plan((), after).drift_from(Plan((), before)) == drift


def test_drift_ignores_estimates_and_is_short() -> None:
    assert Plan((), {}, {"points": 1}).drift_from(Plan((), {}, {"points": 2})) == ()
    [sentence] = Plan((), {"a": "word " * 100}).drift_from(Plan((), {"a": 1}))
    assert len(sentence) < 120
    assert sentence.endswith("...")
