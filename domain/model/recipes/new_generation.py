"""Give a collection a new generation, which serves it through an alias.

Where the name is an alias already, it is pointed from the old generation to the new one in one
step. A collection that clients use by its physical name cannot have an alias of the same name: its
clients go to a new name, or it is dropped and its name becomes the alias, with a gap in between.
"""

from dataclasses import dataclass

from pydantic import Field

from domain.model.errors import InvalidSpec, Rejected
from domain.model.names import next_generation, problem_with
from domain.model.plan import Phase, Plan, Step
from domain.model.recipes.copied import (
    CopiedFrom,
    CopySpec,
    warm_problems,
    warm_seconds,
)
from domain.model.recipes.recipe import Recipe, SourceRow, StoreFacts, held_problem
from domain.model.recipes.steps import (
    aliases_step,
    copying,
    create_step,
    drop_step,
    flow_step,
    look_again_step,
    resume_step,
)
from domain.model.spec import Section, Spec


class Old(CopiedFrom):
    """The collection as it is."""

    collection: str = Field(description="Name that clients use: an alias, or a physical name.")


class New(Section):
    """How clients get to the new generation, where `from.collection` is a physical name."""

    name: str = Field(
        default="",
        description="A new name, which clients go to. The old one goes on answering.",
    )
    replace: bool = Field(
        default=False,
        description="Drop the collection, and make its name an alias. Nothing answers under the "
        "name in between; the migration measures for how long.",
    )


class NewGenerationSpec(CopySpec):
    """Spec of `new-generation`."""

    source: Old = Field(alias="from")
    to: New = New()


@dataclass(frozen=True)
class _Way:
    """From the old generation to the new one.

    Attributes:
        old: physical name.
        new: physical name.
        name: alias that points to the new one at the end.
        collection: logical name of the new one.
        pointing: aliases that point to the old one.
        by_alias: whether the spec names one of these.
        replaces: whether the old one is dropped for an alias of its name.
    """

    old: str
    new: str
    name: str
    collection: str
    pointing: list[str]
    by_alias: bool
    replaces: bool

    @property
    def follow(self) -> list[str]:
        """The aliases that point to the new one at the end, and are there already."""
        return self.pointing if self.replaces or self.by_alias else []


class NewGeneration(Recipe):
    """The recipe."""

    name = "new-generation"
    spec: type[Spec] = NewGenerationSpec

    def store(self, spec: Spec) -> str:
        """The store of both generations."""
        return _own(spec).source.store

    def collections(self, spec: Spec, rows: list[SourceRow]) -> list[str]:  # noqa: ARG002
        """The collection that gets a new generation."""
        return [_own(spec).source.collection]

    def plan(self, spec: Spec, rows: list[SourceRow], store: StoreFacts) -> Plan:  # noqa: ARG002
        """Adopt, create, copy, check, hand over, and name; the way of a physical name is chosen."""
        spec = _own(spec)
        way = _way(spec, store)
        problems = _problems(spec, store, way)
        if problems:
            raise InvalidSpec(tuple(problems))
        old = store.described[way.old]
        place, observed = spec.source.store, spec.source.observed
        steps = copying(
            place,
            [way.old],
            create_step(
                place,
                {"copy": old.schema},
                [
                    {
                        "collection": way.collection,
                        "physical": way.new,
                        "schema": "copy",
                        "existing": False,
                    }
                ],
                does=f"create {way.new} as {way.old} is",
            ),
            flow_step(
                place,
                spec.batch.size,
                [{"source": way.old, "routes": {"*": way.new}}],
                does=f"copy {old.points:,} points of {way.old} to {way.new}",
                undo="nothing: the copy is dropped",
            ),
            warm_seconds=warm_seconds(spec),
            observed=observed,
        )
        steps += _naming(spec, store, way)
        steps.append(resume_step(place, [way.new]))
        if observed and not way.replaces:
            steps.append(look_again_step(place, [way.old]))
        return Plan(
            steps=tuple(steps),
            facts={
                "collection": {way.old: old.schema.to_json()},
                "alias": dict.fromkeys(way.pointing, way.old),
            },
            estimates={"points": {way.old: old.points}},
            notes=_notes(spec, way, old.points),
        )


def _own(spec: Spec) -> NewGenerationSpec:
    if not isinstance(spec, NewGenerationSpec):
        raise Rejected("this spec belongs to another recipe")
    return spec


def _way(spec: NewGenerationSpec, store: StoreFacts) -> _Way:
    given = spec.source.collection
    old = store.aliases.get(given, given)
    name = spec.to.name or given
    return _Way(
        old=old,
        new=next_generation(name, store.taken | store.collections),
        name=name,
        collection=spec.to.name or store.logical.get(old, old),
        pointing=sorted(alias for alias, physical in store.aliases.items() if physical == old),
        by_alias=given in store.aliases,
        replaces=spec.to.replace,
    )


def _problems(spec: NewGenerationSpec, store: StoreFacts, way: _Way) -> list[str]:
    given, name = spec.source.collection, spec.to.name
    problems = warm_problems(spec, "to.replace is true" if way.replaces else None)
    problems += held_problem(way.old, store, "copy what serves them now, or roll that back")
    if way.old not in store.described:
        problems.append(f"collection {given!r} does not exist in store {spec.source.store!r}")
    elif given in store.aliases:
        if name or way.replaces:
            problems.append(
                f"{given!r} is an alias of {way.old!r}, and is pointed to the new generation: "
                "leave `to` out"
            )
    elif name and way.replaces:
        problems.append("to.name and to.replace are two ways; leave one of them out")
    elif not name and not way.replaces:
        problems.append(_choice(given, store.described[given].points))
    elif name in store.collections or name in store.aliases:
        problems.append(f"{name!r} exists in store {spec.source.store!r}; choose another to.name")
    problems += [problem for one in (way.name, way.new) if (problem := problem_with(one))]
    return list(dict.fromkeys(problems))


def _choice(name: str, points: int) -> str:
    """Both ways of a physical name, with what each costs."""
    return (
        f"{name!r} is a collection, so no alias can have its name: choose between to.name and "
        "to.replace. With `to: {name: …}` clients go to a new name, each when it can; nothing "
        f"stops answering, and {name!r} can be kept warm meanwhile (warm_for). With "
        f"`to: {{replace: true}}` clients keep the name; {name!r} is dropped before its name is an "
        "alias, and nothing answers under it in between, which is measured. A rollback of that "
        f"writes all {points:,} points again before {name!r} is whole"
    )


def _naming(spec: NewGenerationSpec, store: StoreFacts, way: _Way) -> list[Step]:
    place = spec.source.store
    follow = dict.fromkeys(way.follow, way.new)
    if not way.replaces:
        return [aliases_step(place, follow or {way.name: way.new}, store.aliases)]
    steps = [aliases_step(place, follow, store.aliases, "other-aliases")] if follow else []
    return [
        *steps,
        drop_step(place, [way.old], spec.batch.size, {}, Phase.CUT_OVER, settle=True),
        aliases_step(place, {way.name: way.new}, {}),
    ]


def _notes(spec: NewGenerationSpec, way: _Way, points: int) -> tuple[str, ...]:
    notes = ["Both generations lie side by side: twice the space."]
    if way.replaces:
        notes.append(
            f"There will be a gap: nothing answers under {way.name} from the moment "
            f"{way.old} is dropped until the alias is pointed. The migration measures it; see "
            "`migration show`."
        )
        notes.append(
            f"Live writes to {way.old} are refused from the hand-over until the alias is pointed: "
            "some 20 seconds, and a comparison of every point."
        )
        notes.append(
            f"A rollback writes {points:,} points again; {way.old} is not whole before that."
        )
        if way.follow:
            notes.append(f"Who uses the aliases {', '.join(way.follow)} has no gap.")
        if spec.source.observed:
            notes.append(
                f"Stop what writes to {way.old} in the store before the hand-over: a write after "
                "it stops the drop, and one during the last comparison may be lost."
            )
    elif way.follow and spec.source.observed:
        notes.append(
            f"Who writes to {way.name} in the store follows the alias: let it write through the "
            "ledger from the hand-over on."
        )
    elif not way.follow:
        warm = warm_seconds(spec) and f", with what is written to {way.name}"
        notes.append(
            f"{way.old} goes on answering{warm or ' as it is then'}, and takes no live writes "
            "any more."
        )
        if way.pointing:
            notes.append(f"Aliases {', '.join(way.pointing)} stay at {way.old}.")
    return tuple(notes)
