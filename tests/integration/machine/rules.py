"""A state machine over a real ledger and a real node, against the model. A rule is an operation.

Hypothesis chooses the rules and what they are given; each drives the product to where it waits for
nobody, changes the model alike, and everything is compared.
"""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.use_cases.sweep import GRACE
from tests.integration.machine import checks
from tests.integration.machine.crossing import Course, Crossing
from tests.integration.machine.keeping import Keeping
from tests.integration.machine.model import IDS, Collection, Id
from tests.integration.machine.operations import Operations
from tests.integration.machine.session import Servers, Session, open_session
from tests.integration.machine.writing import Fate, Kind, Wish
from tests.integration.retaining import NOW

T = TypeVar("T")

MOST_COPIES = 3

numbers = st.integers(0, 99)
ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True)
wishes = st.lists(
    st.builds(Wish, st.sampled_from(Kind), ids, st.sampled_from(Fate)), min_size=1, max_size=4
)


def _courses(crossed: st.SearchStrategy[int]) -> st.SearchStrategy[Course]:
    """Courses of operations that cross the boundary about so often."""
    crossings = st.builds(Crossing, crossed, st.booleans())
    return st.builds(
        Course,
        dies=st.none() | crossings,
        together=st.booleans(),
        writes=st.none() | crossings,
        to=numbers,
        order=numbers,
    )


courses = _courses(st.integers(1, 10) | st.integers(1, 40))
short_courses = _courses(st.integers(1, 6))
ways_back = st.none() | courses
graces = st.sampled_from([NOW, GRACE])


class Machine(RuleBasedStateMachine):
    """Applications, operators and workers at a ledger, and others at its store.

    Attributes:
        portal: into the loop in which everything runs.
        servers: that are shared.
        tally: is told of everything that is done.
    """

    portal: BlockingPortal
    servers: Servers
    tally: "Tally"

    def __init__(self) -> None:
        super().__init__()
        self.tally.begin()
        self._opened: AbstractContextManager[Session] = self.portal.wrap_async_context_manager(
            open_session(self.servers)
        )
        self.does = Operations(self._opened.__enter__())
        self.keeps = Keeping(self.does.session, self.does.model, self.does.numbers)
        self.model = self.does.model

    def teardown(self) -> None:
        """If all was well until here, everything is looked at."""
        try:
            if not self.tally.failed:
                self._do(self.does.end)
        finally:
            self._opened.__exit__(None, None, None)

    @initialize()
    def begin(self) -> None:
        """There are collections."""
        self._do(self.does.begin)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        """What is cheap is looked at after each step."""
        if self.does.began:
            self._do(lambda: checks.check_step(self.does.session, self.model))

    @rule(which=numbers, wishes=wishes)
    def write(self, which: int, wishes: list[Wish]) -> None:
        """An application writes, through the ledger."""
        collection = _one(self._known, which)
        self._do(lambda: self.does.write(collection, wishes))

    @rule(which=numbers)
    def append(self, which: int) -> None:
        """Two operators decide at once."""
        self._do(lambda: self.does.append(_one(self._known, which)))

    @rule(which=numbers, ids=ids, gone=st.booleans())
    def stray(self, which: int, ids: list[Id], gone: bool) -> None:  # noqa: FBT001
        """Somebody writes to the store, past the ledger."""
        self._do(lambda: self.does.stray(_one(self.model.collections, which), ids, gone=gone))

    @rule(course=courses)
    def apply(self, course: Course) -> None:
        """Workers do what there is to do."""
        self._do(lambda: self.does.apply(course))

    @precondition(lambda self: self._adoptable)
    @rule(which=numbers, course=courses)
    def adopt(self, which: int, course: Course) -> None:
        """What a store has counts from here on."""
        self._do(lambda: self.does.adopt(_one(self._adoptable, which), course))

    @precondition(lambda self: self.model.strayed)
    @rule(which=numbers, keep=st.sampled_from([None, False, True]), course=courses)
    def repair(self, which: int, keep: bool | None, course: Course) -> None:  # noqa: FBT001
        """A store becomes what the ledger says again."""
        collection = _one(self.model.strayed, which)
        self._do(lambda: self.does.repair(collection, course, keep=keep))

    @rule(which=numbers)
    def tag(self, which: int) -> None:
        """A version gets a label."""
        self._do(lambda: self.does.tag(_one(self._known, which)))

    @precondition(lambda self: self._restorable)
    @rule(which=numbers, moment=numbers, course=courses, later=wishes, back=ways_back)
    def restore(
        self, which: int, moment: int, course: Course, later: list[Wish], back: Course | None
    ) -> None:
        """A collection becomes one of its versions, and goes on from there; or not for long."""
        collection = _one(self._restorable, which)
        to = _one(self.model.moments_of(collection), moment)
        self._do(lambda: self.does.restore(collection, to, course))
        self._go_on(collection, later, back)

    @precondition(lambda self: self._migratable)
    @rule(
        which=numbers,
        way=st.sampled_from(["name", "warm", "replace"]),
        batch=st.integers(1, 4),
        course=courses,
        later=wishes,
        back=ways_back,
    )
    def migrate(
        self,
        which: int,
        way: str,
        batch: int,
        course: Course,
        later: list[Wish],
        back: Course | None,
    ) -> None:
        """A collection gets another generation, and goes on there; or not for long."""
        collection = _one(self._migratable, which)
        self._do(lambda: self.does.migrate(collection, way, batch, course))
        self._go_on(collection, later, back)

    @precondition(lambda self: self._undoable)
    @rule(which=numbers, course=courses)
    def roll_back(self, which: int, course: Course) -> None:
        """The last migration of a collection is undone."""
        self._do(lambda: self.does.roll_back(_one(self._undoable, which), course))

    @precondition(lambda self: self._undone)
    @rule(which=numbers, course=courses)
    def roll_forward(self, which: int, course: Course) -> None:
        """What was undone is done again."""
        self._do(lambda: self.does.roll_forward(_one(self._undone, which), course))

    @precondition(lambda self: self.model.moments)
    @rule(which=numbers, course=courses)
    def rebuild(self, which: int, course: Course) -> None:
        """A version becomes a collection of its own."""
        self._do(lambda: self.does.rebuild(_one(self.model.moments, which), course))

    @rule(
        which=numbers,
        ids=ids,
        everywhere=st.booleans(),
        course=courses,
        later=wishes,
        anew=st.booleans(),
    )
    def erase(
        self,
        which: int,
        ids: list[Id],
        everywhere: bool,  # noqa: FBT001
        course: Course,
        later: list[Wish],
        anew: bool,  # noqa: FBT001
    ) -> None:
        """Points go for good, also if heads are made anew; and some are written again."""
        first = _one(self._known, which)
        others = [one for one in self._recorded if everywhere and one is not first]
        self._do(lambda: self.keeps.erase([first, *others], ids, course))
        self._do(lambda: self.does.write(first, later))
        if anew:
            self._do(self.does.make_anew)

    @rule(which=numbers, course=short_courses)
    def pack(self, which: int, course: Course) -> None:
        """What a collection is lies together."""
        self._do(lambda: self.keeps.pack(_one(self._known, which), course))

    @rule(which=numbers, course=short_courses, grace=graces, later=wishes)
    def retain(self, which: int, course: Course, grace: timedelta, later: list[Wish]) -> None:
        """Nobody goes back to earlier versions any more, but to those with labels."""
        collection = _one(self._known, which)
        self._do(lambda: self.keeps.retain(collection, course))
        self._do(lambda: self.keeps.sweep(grace, course))
        self._do(lambda: self.does.write(collection, later))

    @rule(course=short_courses, grace=graces)
    def sweep(self, course: Course, grace: timedelta) -> None:
        """What nobody needs goes."""
        self._do(lambda: self.keeps.sweep(grace, course))

    @precondition(lambda self: self.model.moments)
    @rule()
    def make_anew(self) -> None:
        """What is derived from events is lost, and made again."""
        self._do(self.does.make_anew)

    @property
    def _known(self) -> list[Collection]:
        """Collections that the ledger looks after."""
        return [one for one in self.model.collections if one.known]

    @property
    def _recorded(self) -> list[Collection]:
        """Collections that it looks after, or did."""
        return [one for one in self.model.collections if one.names]

    @property
    def _adoptable(self) -> list[Collection]:
        """Collections with something that the ledger does not know."""
        return [one for one in self.model.collections if one.strays or not one.known]

    @property
    def _ready(self) -> list[Collection]:
        """Collections whose stores are as the ledger says: no migration works on others."""
        return [one for one in self.model.collections if not one.strays]

    @property
    def _restorable(self) -> list[Collection]:
        return [one for one in self._ready if one.known and self.model.moments_of(one)]

    @property
    def _migratable(self) -> list[Collection]:
        return [one for one in self._ready if len(one.copies) < MOST_COPIES]

    @property
    def _undoable(self) -> list[Collection]:
        return [one for one in self._ready if one.done and not one.done[-1].archived]

    @property
    def _undone(self) -> list[Collection]:
        return [one for one in self._ready if one.undone]

    def _go_on(self, collection: Collection, later: list[Wish], back: Course | None) -> None:
        """After a migration."""
        self._do(lambda: self.does.write(collection, later))
        if back is not None:
            self._do(lambda: self.does.roll_back(collection, back))

    def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.tally.step()
        try:
            self.portal.call(work)
        except BaseException as error:
            self.tally.fail(error)
            raise


def _one(some: Sequence[T], number: int) -> T:
    return some[number % len(some)]


@dataclass
class Tally:
    """What a run has done.

    Attributes:
        examples: that were begun.
        steps: of the last one, each with the look at what it did.
        failed: what failed first, and when; empty if all is well.
    """

    examples: int = 0
    steps: int = 0
    failed: str = ""

    def begin(self) -> None:
        """Note an example."""
        self.examples += 1
        self.steps = 0

    def step(self) -> None:
        """Note a step."""
        self.steps += 1

    def fail(self, error: BaseException) -> None:
        """Note a failure, if it is the first."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        first = str(error).partition("\n")[0]
        self.failed = self.failed or (
            f"example {self.examples}, step {self.steps}: {type(error).__name__}: {first}"
        )
