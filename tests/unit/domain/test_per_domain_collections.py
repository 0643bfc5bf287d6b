"""The recipe that splits shared collections: names, gaps, refusals, steps and facts."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model.errors import InvalidSpec, Rejected
from domain.model.plan import Plan, StepKind
from domain.model.recipes import RECIPES, recipe_for
from domain.model.recipes.recipe import SourceRow, StoreFacts
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.model.spec import Spec
from tests.builders import few_examples
from tests.unit.domain.specs import (
    BASE,
    CODE,
    DOCS,
    ids,
    malformed,
    plan,
    row,
    spec,
    step,
    store,
)

ROWS = [row("1", "AI Knowledge"), row("2", "Réseau", ("documents", "code"))]
PHYSICAL = spec(to__naming="physical")


def refused(document: dict[str, Any], rows: list[SourceRow], found: StoreFacts) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refusal:
        plan(document, rows, found)
    return refusal.value.problems


def targets(made: Plan) -> list[tuple[str, str, str, bool]]:
    return [
        (t["collection"], t["physical"], t["schema"], t["existing"])
        for t in step(made, "create").params["collections"]
    ]


def test_what_it_needs_to_see() -> None:
    recipe, checked = recipe_for(spec(from__table="app.sources"))
    assert recipe.table(checked) == ("rag", "app.sources")
    assert recipe.store(checked) == "prod"
    assert recipe.collections(checked, [*ROWS, malformed("3", "x")]) == [
        "AI_Knowledge_documents",
        "Reseau_code",
        "Reseau_documents",
        "shared_code",
        "shared_docs",
    ]


def test_the_spec_of_another_recipe_is_refused() -> None:
    other = Spec(version=1, name="n", recipe="r", reason="r")
    with pytest.raises(Rejected, match="another recipe"):
        RECIPES["per-domain-collections"].store(other)


def test_the_steps_of_a_plan() -> None:
    made = plan(BASE, ROWS)
    assert ids(made) == [
        "adopt",
        "create",
        "flow",
        "check",
        "hand-over",
        "aliases",
        "resume",
        "restructure",
    ]
    assert [s.kind for s in made.steps] == [
        StepKind.ADOPT,
        StepKind.CREATE,
        StepKind.FLOW,
        StepKind.CHECK,
        StepKind.HAND_OVER,
        StepKind.POINT_ALIASES,
        StepKind.RESUME_WRITES,
        StepKind.RESTRUCTURE,
    ]
    assert step(made, "adopt").params == {
        "store": "prod",
        "collections": ["shared_code", "shared_docs"],
        "batch": 500,
        "observed": False,
    }
    assert step(made, "flow").params == {
        "store": "prod",
        "batch": 500,
        "field": "source_id",
        "unplaced": "fail",
        "existing": [],
        "flows": [
            {"source": "shared_code", "routes": {"2": "Reseau_code__g1"}},
            {
                "source": "shared_docs",
                "routes": {"1": "AI_Knowledge_documents__g1", "2": "Reseau_documents__g1"},
            },
        ],
    }
    assert step(made, "hand-over").params == {
        "store": "prod",
        "flow_step": "flow",
        "flows": [
            {"source": "shared_code", "copies": ["Reseau_code__g1"]},
            {
                "source": "shared_docs",
                "copies": ["AI_Knowledge_documents__g1", "Reseau_documents__g1"],
            },
        ],
        "field": "source_id",
        "unplaced": "fail",
        "warm_seconds": 0,
        "observed": False,
    }
    assert step(made, "check").params["collections"] == [
        "shared_code",
        "shared_docs",
        "AI_Knowledge_documents__g1",
        "Reseau_code__g1",
        "Reseau_documents__g1",
    ]
    assert made.estimates == {
        "sources": 2,
        "skipped_sources": [],
        "collections_to_create": 3,
        "collections_existing": 0,
        "rows_to_change": 2,
        "points": {"shared_code": 20, "shared_docs": 1000},
    }
    assert all(s.does and s.undo and s.verify for s in made.steps)


def test_what_the_spec_says_reaches_the_steps() -> None:
    made = plan(spec(batch={"size": 7}, unplaced="keep", from__source_field="owner"), ROWS)
    flow = step(made, "flow").params
    assert (flow["batch"], flow["unplaced"], flow["field"]) == (7, "keep", "owner")
    assert step(made, "adopt").params["batch"] == 7
    assert "owner" in step(made, "create").params["schemas"]["documents"]["indexes"]


@few_examples
@given(
    st.text(st.characters(exclude_characters='<>:"/\\|?*\0', exclude_categories=["Cs"]), min_size=1)
)
def test_a_stored_name_is_used_byte_for_byte(name: str) -> None:
    made = plan(BASE, [row("1", "Title", names={"documents": name}, raw="{}")])
    assert targets(made) == [(name, f"{name}__g1", "documents", False)]
    assert step(made, "aliases").params["aliases"] == {name: f"{name}__g1"}
    assert "restructure" not in ids(made)


def test_names_that_differ_in_case_are_two() -> None:
    rows = [
        row("1", "A", names={"documents": "docs"}),
        row("2", "B", names={"documents": "Docs"}),
    ]
    assert [t[0] for t in targets(plan(BASE, rows))] == ["docs", "Docs"]


def test_a_name_that_is_stored_for_a_type_that_is_not_enabled_is_a_target() -> None:
    made = plan(BASE, [row("1", "A", (), {"code": "my_code"})])
    assert targets(made) == [("my_code", "my_code__g1", "code", False)]


def test_gaps_are_named_by_the_rule_and_only_their_rows_change() -> None:
    rows = [
        row("1", "AI Knowledge"),
        row(
            "2", "Full", names={"documents": "kept as it is"}, raw='{"documents": "kept as it is"}'
        ),
        row(
            "3",
            "Half full",
            ("documents", "code"),
            {"code": "Old Code", "documents": "Ol"},
            raw="{}",
        ),
        row("4", "Half", ("documents", "code"), {"code": "Code 4"}, raw='{"code": "Code 4"}'),
        row("5", "Nothing", ()),
    ]
    changes = step(plan(BASE, rows), "restructure").params
    assert changes == {
        "connection": "rag",
        "table": "sources",
        "changes": {
            "1": [None, '{"documents":"AI_Knowledge_documents"}'],
            "4": ['{"code": "Code 4"}', '{"code":"Code 4","documents":"Half_documents"}'],
        },
    }


def test_a_collision_lists_everybody() -> None:
    rows = [
        row("1", "My Docs"),
        row("2", "My  Docs!"),
        row("3", "x", names={"documents": "My_Docs_documents"}),
    ]
    [problem] = refused(BASE, rows, store())
    assert problem == (
        "collection 'My_Docs_documents' would belong to 1 ('My Docs', documents) and "
        "2 ('My  Docs!', documents) and 3 ('x', documents); "
        "store different names in collection_names"
    )


def test_malformed_names_stop_a_plan() -> None:
    [problem] = refused(BASE, [*ROWS, malformed("7", "Bad")], store())
    assert "source 7 ('Bad') has malformed collection_names '[1]'" in problem
    assert "--skip-invalid" in problem


def test_malformed_names_are_left_out_where_asked() -> None:
    made = plan(spec(skip_invalid=True), [*ROWS, malformed("7", "Bad")])
    assert made.estimates["skipped_sources"] == ["7"]
    assert made.estimates["sources"] == 2
    assert "7" not in step(made, "restructure").params["changes"]
    assert "7" not in step(made, "flow").params["flows"][1]["routes"]
    assert len(targets(made)) == len(targets(plan(BASE, ROWS)))
    assert "Sources left out because they are malformed: 7." in made.notes
    assert "7" in made.facts["source"]


def test_a_type_needs_a_collection_or_a_dimension() -> None:
    rows = [row("1", "A", ("media",))]
    [problem] = refused(BASE, rows, store())
    assert "source 1 ('A') has collection type 'media'" in problem
    assert problem.endswith("known are code, documents")


def test_a_type_with_only_a_dimension_is_cosine_and_gets_no_points() -> None:
    made = plan(spec(to__dimensions={"media": 512}), [row("1", "A", ("media",))])
    assert step(made, "create").params["schemas"] == {
        "media": CollectionSchema(
            {"": VectorSpec(VectorKind.DENSE, 512, Distance.COSINE)},
            {"source_id": {"type": "keyword"}},
        ).to_json()
    }
    assert [flow["routes"] for flow in step(made, "flow").params["flows"]] == [{}, {}]


def test_a_schema_is_carried_from_the_shared_collection() -> None:
    schemas = step(plan(BASE, ROWS), "create").params["schemas"]
    assert schemas["documents"] == {
        **DOCS.to_json(),
        "indexes": {"source_id": {"type": "keyword"}, **DOCS.indexes},
    }
    assert schemas["code"]["vectors"] == CODE.to_json()["vectors"]
    assert schemas["code"]["indexes"] == {"source_id": {"type": "keyword"}}


def test_an_index_on_the_source_field_is_kept_as_it_is() -> None:
    tenant = {"type": "keyword", "is_tenant": True}
    there = CollectionSchema(DOCS.vectors, {"source_id": tenant})
    made = plan(BASE, ROWS, store(collections={"shared_docs": (there, 5)}))
    assert step(made, "create").params["schemas"]["documents"]["indexes"] == {"source_id": tenant}


def test_a_shared_collection_must_exist() -> None:
    assert refused(BASE, ROWS, store(without=("shared_docs",))) == (
        "shared collection 'shared_docs' does not exist in store 'prod'",
    )


def test_it_works_within_one_store() -> None:
    [problem] = refused(spec(to__store="other"), ROWS, store())
    assert "to.store is 'other' and from.store 'prod'" in problem


def test_two_types_of_a_source_in_one_collection_cannot_be_told_apart() -> None:
    document = spec(from__collections={"documents": "shared_docs", "code": "shared_docs"})
    [problem] = refused(document, ROWS, store())
    assert problem == (
        "source 2 has code and documents in the one shared collection 'shared_docs', "
        "where source_id does not tell them apart"
    )
    apart = [row("1", "A", ("documents",)), row("2", "B", ("code",))]
    [flow] = step(plan(document, apart), "flow").params["flows"]
    assert flow["routes"] == {"1": "A_documents__g1", "2": "B_code__g1"}


@pytest.mark.parametrize("title", ["日本語", "", "!"])
def test_a_title_without_letters_needs_a_stored_name(title: str) -> None:
    [problem] = refused(BASE, [row("1", title)], store())
    assert problem.startswith(f"source 1: title {title!r} has no letter or digit")
    assert ids(plan(BASE, [row("1", title, names={"documents": "fine"})]))[1] == "create"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a/b", "forbidden character '/'"),
        ("", "is empty"),
        ("x" * 256, "longer than 255"),
        ("x" * 253, "longer than 255"),
    ],
)
def test_a_stored_name_that_the_store_refuses(name: str, problem: str) -> None:
    [found] = refused(BASE, [row("1", "A", names={"documents": name})], store())
    assert problem in found


def test_a_long_name_that_is_the_collection_itself_is_fine() -> None:
    name = "x" * 255
    assert targets(plan(PHYSICAL, [row("1", "A", names={"documents": name})]))[0][1] == name


def test_an_alias_cannot_have_the_name_of_a_collection() -> None:
    found = store(collections={"AI_Knowledge_documents": (DOCS, 0)})
    [problem] = refused(BASE, ROWS, found)
    assert "'AI_Knowledge_documents' is to be an alias, but a collection has that name" in problem
    assert "set to.naming: physical" in problem


def test_an_alias_that_exists_is_not_taken_over() -> None:
    found = store(aliases={"AI_Knowledge_documents": "theirs"})
    [problem] = refused(BASE, ROWS, found)
    assert problem.startswith("alias 'AI_Knowledge_documents' exists and points to 'theirs'")


def test_a_collection_cannot_have_the_name_of_an_alias() -> None:
    [problem] = refused(PHYSICAL, ROWS, store(aliases={"AI_Knowledge_documents": "theirs"}))
    assert "is to be a collection, but an alias has that name" in problem


def test_a_physical_target_with_another_shape_is_refused() -> None:
    found = store(collections={"AI_Knowledge_documents": (CODE, 0)})
    shape = "collection 'AI_Knowledge_documents' exists with another shape"
    assert refused(PHYSICAL, ROWS, found) == (
        f"{shape}: the vector is dense 8 cosine here and dense 4 dot there",
        f"{shape}: vector 'words' exists on one side only",
    )


def test_a_physical_target_with_points_is_refused() -> None:
    [problem] = refused(PHYSICAL, ROWS, store(collections={"AI_Knowledge_documents": (DOCS, 3)}))
    assert "'AI_Knowledge_documents' exists and holds 3 points" in problem


def test_an_empty_physical_target_is_counted_as_existing() -> None:
    made = plan(PHYSICAL, ROWS, store(collections={"AI_Knowledge_documents": (DOCS, 0)}))
    assert targets(made) == [
        ("AI_Knowledge_documents", "AI_Knowledge_documents", "documents", True),
        ("Reseau_code", "Reseau_code", "code", False),
        ("Reseau_documents", "Reseau_documents", "documents", False),
    ]
    assert step(made, "create").does.startswith("create 2 collections")
    assert "1 exist already" in step(made, "create").does
    assert step(made, "flow").params["existing"] == ["AI_Knowledge_documents"]
    assert made.facts["collection"] == {"AI_Knowledge_documents": "exists"}


def test_physical_names_need_no_aliases() -> None:
    made = plan(PHYSICAL, ROWS)
    assert ids(made) == [
        "adopt",
        "create",
        "flow",
        "check",
        "hand-over",
        "resume",
        "restructure",
    ]
    assert {t[0] == t[1] for t in targets(made)} == {True}


@pytest.mark.parametrize(
    ("found", "physical"),
    [
        (store(), "AI_Knowledge_documents__g1"),
        (store(taken=("AI_Knowledge_documents__g1",)), "AI_Knowledge_documents__g2"),
        (
            store(collections={"AI_Knowledge_documents__g1": (DOCS, 1)}),
            "AI_Knowledge_documents__g2",
        ),
    ],
)
def test_a_generation_takes_a_name_that_was_never_used(found: StoreFacts, physical: str) -> None:
    assert targets(plan(BASE, ROWS[:1], found))[0][1] == physical


def test_shared_collections_are_kept_unless_asked() -> None:
    assert "drop" not in ids(plan(BASE, ROWS))
    found = store(aliases={"docs": "shared_docs", "elsewhere": "other"})
    made = plan(spec(after="drop"), ROWS, found)
    assert ids(made)[-1] == "drop"
    assert step(made, "drop").params == {
        "store": "prod",
        "collections": ["shared_code", "shared_docs"],
        "batch": 500,
        "aliases": {"docs": "shared_docs"},
        "settle": False,
    }
    assert any("Aliases docs point to them" in note for note in made.notes)
    assert any("a rollback brings them back" in note for note in made.notes)


def test_without_sources_there_is_little_to_do() -> None:
    assert ids(plan(BASE, [])) == ["adopt", "create", "flow", "check", "hand-over"]


def test_nothing_drifts_while_only_points_come_and_go() -> None:
    later = store(collections={"shared_docs": (DOCS, 5000)})
    assert plan(BASE, ROWS, later).drift_from(plan(BASE, ROWS)) == ()
    assert plan(BASE, ROWS, later).facts == plan(BASE, ROWS).facts


@pytest.mark.parametrize(
    ("rows", "found", "drift"),
    [
        (
            [row("1", "Other"), ROWS[1]],
            store(),
            'source 1 title was "AI Knowledge" and is "Other"',
        ),
        (ROWS[:1], store(), "source 2 is gone"),
        ([*ROWS, row("3", "New")], store(), "source 3 is new"),
        (
            [row("1", "AI Knowledge", raw="{}"), ROWS[1]],
            store(),
            'source 1 names was null and is "{}"',
        ),
        (
            [row("1", "AI Knowledge", ("code", "documents")), ROWS[1]],
            store(),
            'source 1 types was ["documents"] and is ["code","documents"]',
        ),
        (
            ROWS,
            store(collections={"Reseau_code": (CODE, 0)}),
            "collection Reseau_code is new",
        ),
        (
            ROWS,
            store(collections={"shared_code": (CollectionSchema(CODE.vectors, {"f": {}}), 20)}),
            "shared collection shared_code indexes f is new",
        ),
    ],
)
def test_a_fact_that_changed_is_named(rows: list[SourceRow], found: StoreFacts, drift: str) -> None:
    assert plan(PHYSICAL, rows, found).drift_from(plan(PHYSICAL, ROWS)) == (drift,)


def test_types_in_another_order_are_no_drift() -> None:
    turned = [ROWS[0], row("2", "Réseau", ("code", "documents"))]
    assert plan(BASE, turned).drift_from(plan(BASE, ROWS)) == ()
    assert plan(BASE, turned).hash == plan(BASE, ROWS).hash


def test_the_plan_is_plain_json_with_a_stable_hash() -> None:
    made = plan(BASE, ROWS)
    back = Plan.from_json(orjson.loads(orjson.dumps(made.to_json())))
    assert back == made
    turned = dict(reversed(BASE.items()))
    turned["from"] = {
        **BASE["from"],
        "collections": {"code": "shared_code", "documents": "shared_docs"},
    }
    assert plan(turned, ROWS).hash == made.hash == back.hash


def test_shared_collections_are_kept_warm_as_long_as_the_spec_says() -> None:
    kept = step(plan(spec(warm_for="7d"), ROWS), "hand-over")
    assert kept.params["warm_seconds"] == 7 * 86400
    assert "keep them up to date for 7 days" in kept.does
    assert "90 seconds" in step(plan(spec(warm_for="90s"), ROWS), "hand-over").does


def test_collections_that_others_write_to_are_looked_at_again_once_clients_know_the_names() -> None:
    made = plan(spec(from__observed=True, after="drop"), ROWS)
    assert ids(made)[4:] == [
        "hand-over",
        "aliases",
        "resume",
        "restructure",
        "look-again",
        "drop",
    ]
    assert step(made, "adopt").params["observed"]
    assert step(made, "hand-over").params["observed"]
    assert not {"shared_docs", "shared_code"} & set(step(made, "check").params["collections"])
    assert step(made, "look-again").params["collections"] == ["shared_code", "shared_docs"]


def test_what_is_dropped_is_not_kept_warm() -> None:
    assert refused(spec(warm_for="1h", after="drop"), ROWS, store()) == (
        "after is drop, and warm_for keeps what that drops; leave one of them out",
    )


@pytest.mark.parametrize("text", ["", "a week", "99999999999d"])
def test_a_time_to_keep_warm_is_a_duration(text: str) -> None:
    (problem,) = refused(spec(warm_for=text), ROWS, store())
    assert problem == (
        f"warm_for is {text!r}, not a duration such as 90s, 15m, 24h or 7d, of at most 36500d"
    )


def test_all_problems_are_told_at_once() -> None:
    rows = [malformed("1", "Bad"), row("2", "日本語"), row("3", "A", ("media",))]
    assert len(refused(BASE, rows, store(without=("shared_docs",)))) == 4


def test_a_name_that_was_taken_since_the_plan_makes_its_steps_stale() -> None:
    taken = store(collections={"AI_Knowledge_documents__g1": (CODE, 0)})
    assert plan(spec(), ROWS, taken).drift_from(plan(spec(), ROWS)) == tuple(
        f"step {step} would do something else now"
        for step in ("create", "flow", "check", "hand-over", "aliases", "resume")
    )
