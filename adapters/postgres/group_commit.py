"""Group commit: callers that append at the same time share a transaction."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from adapters.postgres.appending import EncodedCommand, Outcome

MAX_BATCH = 128
_IN_FLIGHT = 2

Execute = Callable[[Sequence[EncodedCommand]], Awaitable[list[Outcome]]]


@dataclass
class _Waiting:
    command: EncodedCommand
    outcome: asyncio.Future[Outcome]


class GroupCommit:
    """Gathers the commands that arrive while a transaction is on its way into the next one.

    A caller that is alone executes its command itself, without a detour. A batch that is full does
    not wait for the one before it: the database works on that while this one is sent, and answers
    are given out meanwhile.

    Args:
        execute: executes commands with different keys in one transaction.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._queue: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._in_flight = 0

    async def submit(self, command: EncodedCommand) -> Outcome:
        """Have a command executed; returns what became of it."""
        if not self._in_flight and not self._queue:
            self._in_flight += 1
            try:
                [outcome] = await self._execute([command])
            finally:
                self._in_flight -= 1
                if self._queue:
                    self._changed.set()
            return outcome
        waiting = _Waiting(command, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._changed.set()
        return await waiting.outcome

    async def run(self) -> None:
        """Execute what queues up, until cancelled; who still waits then is cancelled too."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    while self._may_start() and (batch := self._next_batch()):
                        self._in_flight += 1
                        group.create_task(self._answer(batch))
        finally:
            for waiting in self._queue:
                waiting.outcome.cancel()

    def _may_start(self) -> bool:
        full = len(self._queue) >= MAX_BATCH
        return self._in_flight < (_IN_FLIGHT if full else 1)

    def _next_batch(self) -> list[_Waiting]:
        """The oldest commands with different keys; abandoned ones are dropped."""
        batch: dict[str | None, _Waiting] = {}
        while self._queue and len(batch) < MAX_BATCH:
            waiting = self._queue[0]
            if not waiting.outcome.cancelled():
                if waiting.command.key in batch:
                    break
                batch[waiting.command.key] = waiting
            self._queue.popleft()
        return list(batch.values())

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = await self._execute([waiting.command for waiting in batch])
        except Exception as error:  # noqa: BLE001  # every caller of the batch gets it
            for waiting in batch:
                if not waiting.outcome.done():
                    waiting.outcome.set_exception(error)
        else:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if not waiting.outcome.done():
                    waiting.outcome.set_result(outcome)
            # Who got an answer now submits what comes next, and is in the next batch: else the
            # first would take itself for alone, and the others would wait for it.
            await asyncio.sleep(0)
        finally:
            for waiting in batch:
                waiting.outcome.cancel()
            self._in_flight -= 1
            self._changed.set()
