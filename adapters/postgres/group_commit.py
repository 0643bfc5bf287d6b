"""Group commit: callers that append at the same time share a transaction."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from adapters.postgres.appending import EncodedCommand, Outcome

MAX_BATCH = 256

Execute = Callable[[Sequence[EncodedCommand]], Awaitable[list[Outcome]]]


@dataclass
class _Waiting:
    command: EncodedCommand
    outcome: asyncio.Future[Outcome]


class GroupCommit:
    """Gathers the commands that arrive while a transaction is on its way into the next one.

    A caller that is alone executes its command itself, without a detour.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._in_flight = 0

    async def submit(self, command: EncodedCommand) -> Outcome:
        """Have a command executed; returns what became of it."""
        if not self._in_flight and not self._queue:
            self._in_flight += 1
            try:
                [outcome] = await self._execute([command])
            finally:
                self._in_flight -= 1
            return outcome
        waiting = _Waiting(command, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        return await waiting.outcome

    async def run(self) -> None:
        """Execute what queues up, until cancelled; who still waits then is cancelled too."""
        batch: list[_Waiting] = []
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while batch := self._next_batch():
                    await self._answer(batch)
        finally:
            for waiting in [*batch, *self._queue]:
                waiting.outcome.cancel()

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
        self._in_flight += 1
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
        finally:
            self._in_flight -= 1
