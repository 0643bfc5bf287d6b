"""Faults: wrappers around ports, and deliveries that a broker would be ashamed of."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

from domain.model.recorded import Recorded
from domain.ports import Ledger

Call = Callable[..., Awaitable[Any]]


class Crash(BaseException):
    """The process is gone: no `LedgerError`, so nothing handles it."""


class Wrapped:
    """A port with some of its methods replaced."""

    def __init__(self, inner: Any, **methods: Any) -> None:
        self._inner = inner
        vars(self).update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def before(call: Call, error: Exception, *, nth: int = 1, times: int = 1) -> Call:
    """The same call, which from the n-th time on raises instead, so many times."""
    numbers = count(1)

    async def method(*args: Any, **kwargs: Any) -> Any:
        if nth <= next(numbers) < nth + times:
            raise error
        return await call(*args, **kwargs)

    return method


def after(call: Call, error: Exception, *, nth: int = 1) -> Call:
    """The same call, which the n-th time raises when it is done."""
    numbers = count(1)

    async def method(*args: Any, **kwargs: Any) -> Any:
        number = next(numbers)
        result = await call(*args, **kwargs)
        if number == nth:
            raise error
        return result

    return method


class LedgerDeliveries:
    """Delivers the changes of generations straight from the ledger.

    Args:
        ledger: where changes are read.
        random: how to drop, repeat and reorder; None delivers each change once, in order.
        deaf: deliver nothing, so that only the applier's own look into the ledger is left.
    """

    def __init__(self, ledger: Ledger, *, random: Random | None = None, deaf: bool = False) -> None:
        self._ledger = ledger
        self._random = random
        self._deaf = deaf
        self._position = 0
        self.delivered: list[Recorded] = []
        self.completed: list[Recorded] = []

    async def fetch(self) -> Sequence[Recorded]:
        """The next changes, as well as this can be expected."""
        head = await self._ledger.head()
        changes = await self._ledger.read(self._position, 1000, topics="generation.")
        if not changes:
            self._position = max(self._position, head.position)
            await self._ledger.wait(self._position, 0.1)
            return []
        self._position = changes[-1].position
        if self._deaf:
            return []
        if self._random is not None:
            changes = [change for change in changes if self._random.random() < 0.8]
            changes += self._random.choices(changes, k=len(changes) // 2) if changes else []
            changes += self._random.choices(self.delivered, k=3) if self.delivered else []
            self._random.shuffle(changes)
        self.delivered += changes
        return changes

    def complete(self, change: Recorded) -> None:
        """Remember what needs no redelivery."""
        self.completed.append(change)

    def owns(self, _generation: UUID) -> bool:
        """There is no other consumer."""
        return True

    @property
    def open(self) -> set[tuple[UUID, int]]:
        """Changes that were delivered and not completed as often."""
        left = [(change.stream, change.version) for change in self.delivered]
        for change in self.completed:
            left.remove((change.stream, change.version))
        return set(left)
