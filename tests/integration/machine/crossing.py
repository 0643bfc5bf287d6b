"""What happens at the boundary of the ports: the process dies there, or an application writes."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from domain.use_cases.tools import Tools
from tests.integration.faults import Crash, Wrapped
from tests.integration.worlds import STORE, WorldStores

LEDGER = ("append", "record", "pack")
OBJECTS = ("put", "delete")
APPLICATIONS = ("receipt",)
RANGES = ("plan", "finish", "cancel")
STORES = ("create", "drop", "upsert", "delete", "point_alias", "remove_alias")


@dataclass(frozen=True)
class Crossing:
    """One call of a port that changes something.

    Attributes:
        nth: of all such calls of an operation that are not refused, from 1.
        committed: whether the call has been made.
    """

    nth: int
    committed: bool


@dataclass
class Boundary:
    """Counts the calls of ports that change something.

    Attributes:
        events: what happens at some of them.
        crossed: how many calls there were.
    """

    events: dict[Crossing, Callable[[], Awaitable[None]]]
    crossed: int = 0
    happened: list[Crossing] = field(default_factory=list)

    def tools(self, tools: Tools) -> Tools:
        """The same tools, whose calls are counted."""
        store = tools.stores.store(STORE)
        stores = tools.stores
        assert isinstance(stores, WorldStores)
        return replace(
            tools,
            ledger=self._counted(tools.ledger, LEDGER),
            objects=self._counted(tools.objects, OBJECTS),
            applications=self._counted(tools.applications, APPLICATIONS),
            ranges=self._counted(tools.ranges, RANGES),
            stores=replace(stores, vectors=self._counted(store, STORES)),
        )

    def _counted(self, port: Any, methods: tuple[str, ...]) -> Any:
        return Wrapped(port, **{name: self._method(getattr(port, name)) for name in methods})

    def _method(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def method(*args: Any, **kwargs: Any) -> Any:
            await self._cross(Crossing(self.crossed + 1, committed=False))
            result = await call(*args, **kwargs)
            self.crossed += 1
            await self._cross(Crossing(self.crossed, committed=True))
            return result

        return method

    async def _cross(self, crossing: Crossing) -> None:
        event = self.events.pop(crossing, None)
        if event is not None:
            await event()


async def crash() -> None:
    """The process is gone."""
    raise Crash


@contextmanager
def raising(kind: type[BaseException], what: str) -> Iterator[None]:
    """What is done inside ends with an error; `pytest.raises` would end the loop if it does not."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{what}: no {kind.__name__}")


@dataclass(frozen=True)
class Course:
    """How an operation goes.

    Attributes:
        dies: where a process dies on the way.
        together: whether the applier dies with it.
        writes: where an application writes meanwhile.
        to: which point it writes to, as a number that something is picked by.
        order: how changes are delivered, as a seed.
    """

    dies: Crossing | None = None
    together: bool = False
    writes: Crossing | None = None
    to: int = 0
    order: int = 0

    def events(self) -> dict[Crossing, Callable[[], Awaitable[None]]]:
        """The death, if there is one."""
        return {} if self.dies is None else {self.dies: crash}
