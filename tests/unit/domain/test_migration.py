"""What a migration may do in which state, and that its events say it all."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model.errors import Rejected
from domain.model.migration import Migration, State
from domain.model.plan import Step
from tests.builders import few_examples, plan_of
from tests.unit.domain.scenario import Fact, Given, collected, fact, replayed

PLAN = plan_of(["adopt", "create"])
ADOPT, CREATE = PLAN.steps
SPEC = {"name": "split", "on_failure": "rollback"}
DONE = {"rows": 3}

Command = Callable[[Migration], None]

planned = fact(
    Migration.Created,
    name="split",
    recipe="per-domain-collections",
    spec=SPEC,
    attempt=1,
    plan=PLAN.to_json(),
    plan_hash=PLAN.hash,
)
started = fact(Migration.Started, plan_hash=PLAN.hash)
adopting = fact(Migration.StepStarted, step="adopt", phase="backup")
adopted = fact(Migration.StepCompleted, step="adopt", result=DONE)
creating = fact(Migration.StepStarted, step="create", phase="creation")
created = fact(Migration.StepCompleted, step="create", result={})
creation_failed = fact(Migration.StepFailed, step="create", category="Rejected", error="no")
completed = fact(Migration.Completed, statistics={"points": 3})
cancelled = fact(Migration.RollbackRequested, cancelled=True)
asked_back = fact(Migration.RollbackRequested, cancelled=False)
uncreated = fact(Migration.StepCompensated, step="create", result={})
unadopted = fact(Migration.StepCompensated, step="adopt", result=DONE)
back_failed = fact(Migration.RollbackFailed, step="create", category="Conflict", error="busy")
back = fact(Migration.RolledBack)

TO_RUNNING = (planned, started)
TO_FAILED = (*TO_RUNNING, adopting, adopted, creating, creation_failed)
TO_DONE = (*TO_RUNNING, adopting, adopted, creating, created)
TO_COMPLETED = (*TO_DONE, completed)
TO_ROLLING_BACK = (*TO_COMPLETED, asked_back)
TO_ROLLED_BACK = (*TO_ROLLING_BACK, uncreated, unadopted, back)
TO_CANCELLED = (planned, cancelled, back)

HISTORIES: dict[State, tuple[Fact, ...]] = {
    State.PLANNED: (planned,),
    State.RUNNING: TO_RUNNING,
    State.FAILED: TO_FAILED,
    State.COMPLETED: TO_COMPLETED,
    State.ROLLING_BACK: TO_ROLLING_BACK,
    State.ROLLED_BACK: TO_ROLLED_BACK,
    State.CANCELLED: TO_CANCELLED,
}


def start(migration: Migration) -> None:
    migration.start(PLAN.hash)


def complete(migration: Migration) -> None:
    migration.complete({"points": 3})


def begin(step: Step) -> Command:
    return lambda migration: migration.start_step(step)


def finish(step: Step) -> Command:
    return lambda migration: migration.complete_step(step, DONE if step is ADOPT else {})


def undo(step: Step) -> Command:
    return lambda migration: migration.compensate_step(step, DONE if step is ADOPT else {})


def fail(migration: Migration) -> None:
    migration.fail_step(CREATE, "Rejected", "no")


def fail_back(migration: Migration) -> None:
    migration.fail_step(CREATE, "Conflict", "busy")


def migration(*history: Fact) -> Given[Migration]:
    return Given(Migration, *history)


@pytest.mark.parametrize("state", State)
def test_histories_lead_to_states(state: State) -> None:
    assert migration(*HISTORIES[state]).aggregate.state is state


def test_every_state_but_two_is_settled() -> None:
    assert {s for s in State if not s.settled} == {State.RUNNING, State.ROLLING_BACK}


def test_a_planned_migration_holds_its_plan() -> None:
    found = migration(planned).aggregate
    assert found.plan == PLAN
    assert (found.name, found.attempt, found.spec) == ("split", 1, SPEC)
    assert found.id == Migration.create_id(dict(reversed(SPEC.items())), 1)
    assert found.id != Migration.create_id(SPEC, 2)


def test_a_plan_is_started() -> None:
    assert migration(planned).when(start).then(started).next_step == ADOPT


def test_another_plan_is_not_started() -> None:
    migration(planned).when(lambda m: m.start("0" * 64)).refused("has plan .*, not 000")


def test_steps_run_in_order_to_the_end() -> None:
    found = (
        migration(planned)
        .when(start, begin(ADOPT), finish(ADOPT), begin(CREATE), finish(CREATE), complete)
        .then(started, adopting, adopted, creating, created, completed)
    )
    assert found.state is State.COMPLETED
    assert found.results == {"adopt": DONE, "create": {}}
    assert found.statistics == {"points": 3}
    assert found.next_step is None


def test_a_step_that_has_begun_goes_on_without_another_event() -> None:
    migration(*TO_RUNNING, adopting).when(begin(ADOPT)).then()


def test_steps_are_not_taken_out_of_order() -> None:
    migration(*TO_RUNNING).when(begin(CREATE)).refused("not at step 'create'")
    migration(*TO_RUNNING, adopting).when(finish(CREATE)).refused("not at step 'create'")
    migration(*TO_RUNNING).when(finish(ADOPT)).refused("not at step 'adopt'")
    migration(*TO_RUNNING, adopting, adopted).when(finish(ADOPT)).refused("not at step 'adopt'")
    migration(*TO_RUNNING, adopting, adopted).when(begin(ADOPT)).refused("not at step 'adopt'")
    migration(*TO_RUNNING, adopting, adopted).when(complete).refused("still to run step 'create'")
    migration(*TO_ROLLING_BACK).when(undo(ADOPT)).refused("not at step 'adopt'")
    migration(*TO_ROLLING_BACK, uncreated).when(undo(CREATE)).refused("not at step 'create'")
    migration(*TO_ROLLING_BACK, uncreated).when(Migration.finish_rollback).refused(
        "still to undo step 'adopt'"
    )


def test_a_failure_with_rollback_undoes_what_had_begun_last_first() -> None:
    found = (
        migration(*TO_RUNNING, adopting, adopted, creating)
        .when(
            fail,
            Migration.request_rollback,
            undo(CREATE),
            undo(ADOPT),
            Migration.finish_rollback,
        )
        .then(creation_failed, asked_back, uncreated, unadopted, back)
    )
    assert found.state is State.ROLLED_BACK
    assert found.compensated == {"create": {}, "adopt": DONE}
    assert found.error == "no"


def test_a_failure_with_pause_waits_and_goes_on_at_the_failed_step() -> None:
    given = migration(*TO_RUNNING, adopting, adopted, creating)
    paused = given.when(fail).then(creation_failed)
    assert (paused.state, paused.error) == (State.FAILED, "no")
    resumed = migration(*TO_FAILED).when(start).then(started)
    assert (resumed.state, resumed.error, resumed.next_step) == (State.RUNNING, None, CREATE)
    migration(*TO_FAILED, started).when(begin(CREATE), finish(CREATE), complete).then(
        created, completed
    )


def test_only_what_had_begun_is_undone() -> None:
    found = migration(*TO_RUNNING, adopting, cancelled)
    assert found.aggregate.next_compensation == ADOPT
    found.when(undo(ADOPT), Migration.finish_rollback).then(unadopted, back)


def test_a_completed_migration_is_rolled_back() -> None:
    found = migration(*TO_COMPLETED).when(Migration.request_rollback).then(asked_back)
    assert found.next_compensation == CREATE


def test_a_rollback_is_asked_for_once() -> None:
    for history in (TO_ROLLING_BACK, TO_ROLLED_BACK, TO_CANCELLED):
        migration(*history).when(Migration.request_rollback).then()
        migration(*history).when(Migration.cancel).then()


def test_a_plan_that_never_ran_cannot_be_rolled_back_but_given_up() -> None:
    migration(planned).when(Migration.request_rollback).refused("was only planned")
    found = migration(planned).when(Migration.cancel, Migration.finish_rollback)
    assert found.then(cancelled, back).state is State.CANCELLED


@pytest.mark.parametrize("ask", [Migration.request_rollback, Migration.cancel])
def test_going_back_while_it_runs_ends_cancelled(ask: Command) -> None:
    found = (
        migration(*TO_RUNNING, adopting)
        .when(ask, undo(ADOPT), Migration.finish_rollback)
        .then(cancelled, unadopted, back)
    )
    assert found.state is State.CANCELLED


def test_a_failed_migration_is_given_up() -> None:
    migration(*TO_FAILED).when(Migration.cancel).then(cancelled)
    migration(*TO_FAILED).when(Migration.request_rollback).then(asked_back)


def test_a_completed_migration_is_not_cancelled() -> None:
    migration(*TO_COMPLETED).when(Migration.cancel).refused("use rollback to undo it")


def test_a_rollback_that_failed_is_asked_for_again_and_goes_on() -> None:
    given = migration(*TO_ROLLING_BACK)
    stopped = given.when(fail_back).then(back_failed)
    assert (stopped.state, stopped.error) == (State.FAILED, "busy")
    found = (
        migration(*TO_ROLLING_BACK, back_failed)
        .when(Migration.request_rollback, undo(CREATE), undo(ADOPT), Migration.finish_rollback)
        .then(asked_back, uncreated, unadopted, back)
    )
    assert found.state is State.ROLLED_BACK


def test_a_cancellation_that_failed_still_ends_cancelled() -> None:
    found = (
        migration(*TO_RUNNING, adopting, adopted, creating, cancelled, back_failed)
        .when(Migration.request_rollback, undo(CREATE), undo(ADOPT), Migration.finish_rollback)
        .then(cancelled, uncreated, unadopted, back)
    )
    assert found.state is State.CANCELLED


@pytest.mark.parametrize("undone", [(), (uncreated,)])
def test_what_began_to_go_back_does_not_go_forward(undone: tuple[Fact, ...]) -> None:
    migration(*TO_ROLLING_BACK, *undone, back_failed).when(start).refused("`rollback` goes on")


ILLEGAL: dict[str, tuple[Command, set[State]]] = {
    "start": (start, set(State) - {State.PLANNED, State.FAILED}),
    "start a step": (begin(ADOPT), set(State) - {State.RUNNING}),
    "complete a step": (finish(ADOPT), set(State)),
    "fail a step": (fail, set(State) - {State.RUNNING, State.ROLLING_BACK}),
    "complete": (complete, set(State)),
    "compensate": (undo(CREATE), set(State) - {State.ROLLING_BACK}),
    "finish the rollback": (Migration.finish_rollback, set(State)),
    "cancel": (Migration.cancel, {State.COMPLETED}),
    "roll back": (Migration.request_rollback, {State.PLANNED}),
}


@pytest.mark.parametrize(
    ("command", "state"), [(name, s) for name, (_, states) in ILLEGAL.items() for s in states]
)
def test_illegal_transitions(command: str, state: State) -> None:
    migration(*HISTORIES[state]).when(ILLEGAL[command][0]).refused("migration")


COMMANDS: list[Command] = [
    start,
    begin(ADOPT),
    begin(CREATE),
    finish(ADOPT),
    finish(CREATE),
    fail,
    complete,
    undo(CREATE),
    undo(ADOPT),
    Migration.request_rollback,
    Migration.cancel,
    Migration.finish_rollback,
]


@few_examples
@given(st.lists(st.sampled_from(COMMANDS), max_size=30))
def test_whatever_is_asked_the_events_say_it_all(commands: list[Command]) -> None:
    given_ = migration(planned)
    found, events = given_.aggregate, list(given_.events)
    for command in commands:
        with suppress(Rejected):
            command(found)
        events += collected(found)
    assert replayed(events) == found
    if found.state is State.COMPLETED:
        assert set(found.results) == {"adopt", "create"}
    if found.state in {State.ROLLED_BACK, State.CANCELLED}:
        assert set(found.compensated) == set(found.started)
