"""Lets the faults of a schedule happen, each at its moment."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.faults.progress import Progress
from tests.faults.schedule import SERVERS, Fault, Kind, Schedule
from tests.faults.world import World

SERVER_SECONDS = 60.0
"""How long a server may take to be back after it was killed."""


@dataclass
class Told:
    """What happened, with times.

    Attributes:
        begun: monotonic time that times are counted from.
        lines: seconds, and what happened then.
        broker_lost: how often the broker was killed, and so forgot everything.
        healed: monotonic time at which the last fault was over.
    """

    begun: float = field(default_factory=time.monotonic)
    lines: list[tuple[float, str]] = field(default_factory=list)
    broker_lost: int = 0
    healed: float = 0.0

    def tell(self, text: str) -> None:
        """Note what happens now."""
        self.lines.append((time.monotonic() - self.begun, text))


Look = Callable[[str], Awaitable[None]]
"""Looks at what a killed program left behind, before it is started again."""


async def inject(
    world: World, schedule: Schedule, progress: Progress, told: Told, look: Look
) -> None:
    """Let all faults happen; returns when the last one is over and all servers are back."""
    async with asyncio.TaskGroup() as group:
        for fault in schedule.faults:
            group.create_task(_inject(world, fault, progress, told, look))
    told.healed = max(told.healed, time.monotonic())


async def _inject(world: World, fault: Fault, progress: Progress, told: Told, look: Look) -> None:
    await progress.until(fault.moment.topic, fault.moment.count)
    await asyncio.sleep(fault.moment.seconds)
    told.tell(f"begins: {fault}")
    if fault.kind is Kind.KILL:
        await _kill(world, fault, told, look)
    elif fault.kind is Kind.PAUSE:
        await world.pause(fault.target, fault.seconds)
    else:
        await _disturb(world, fault)
    told.tell(f"over: {fault}")


async def _kill(world: World, fault: Fault, told: Told, look: Look) -> None:
    if fault.target not in SERVERS:
        await world.programs[fault.target].kill(fault.seconds, lambda: look(fault.target))
        return
    pid = world.supervisor.pid(fault.target)
    if pid is None:
        return
    told.broker_lost += fault.target == "broker"
    os.killpg(pid, signal.SIGKILL)
    async with asyncio.timeout(SERVER_SECONDS):
        while world.supervisor.pid(fault.target) in {None, pid}:
            await asyncio.sleep(0.01)


async def _disturb(world: World, fault: Fault) -> None:
    proxy = world.proxies[fault.target, fault.server]
    if fault.kind is Kind.CUT:
        proxy.cut()
        return
    if fault.kind is Kind.LATE:
        await proxy.deliver_late(fault.seconds)
        return
    if fault.kind is Kind.REFUSE:
        proxy.refuse()
    else:
        proxy.hold(
            requests=fault.kind is Kind.HOLD_REQUESTS, answers=fault.kind is Kind.HOLD_ANSWERS
        )
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        proxy.release()
