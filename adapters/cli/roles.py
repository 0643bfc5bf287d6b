"""What workers do: one coroutine for each role, and the process that runs some of them."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import uuid4

from adapters.bootstrap import Service
from domain.model.errors import Rejected, Unavailable
from domain.model.spec import nearest
from domain.use_cases.apply_changes import Applier
from domain.use_cases.project import project
from domain.use_cases.relay import relay
from domain.use_cases.run_migration import coordinate
from domain.use_cases.work_flows import work_flows
from projections import PROJECTIONS

logger = logging.getLogger("migration_ledger.worker")

BEAT_SECONDS = 3.0
DRAIN_SECONDS = 15.0
RETRY_SECONDS = 0.5

Role = Callable[[Service, str, asyncio.Event], Awaitable[None]]


async def _relay(service: Service, worker: str, stop: asyncio.Event) -> None:
    async with service.publisher() as publisher:
        await relay(service.ledger, service.cursors, service.leaders, publisher, worker, stop)


async def _apply(service: Service, worker: str, stop: asyncio.Event) -> None:
    async with service.changes() as consumer:
        await Applier(service.applier_tools, consumer, worker).run(stop)


async def _flow(service: Service, worker: str, stop: asyncio.Event) -> None:
    await work_flows(service.tools, worker, stop)


async def _coordinate(service: Service, worker: str, stop: asyncio.Event) -> None:
    await coordinate(service.tools, service.leaders, worker, stop)


async def _project(service: Service, worker: str, stop: asyncio.Event) -> None:
    await project(service.ledger, service.views, service.leaders, PROJECTIONS, worker, stop)


ROLES: dict[str, Role] = {
    "relay": _relay,
    "applier": _apply,
    "flow": _flow,
    "coordinator": _coordinate,
    "projector": _project,
}


def chosen_roles(text: str) -> list[str]:
    """The roles of a comma-separated list.

    Raises:
        Rejected: one is not a role.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ROLES:
            raise Rejected(f"unknown role {name!r}{nearest(name, list(ROLES))}")
    if not names:
        raise Rejected(f"name at least one role: {', '.join(ROLES)}")
    return names


async def run_roles(service: Service, roles: Sequence[str]) -> None:
    """Run roles until SIGTERM or SIGINT; then finish what is under way, for 15 seconds at most."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_keep(service, role, stop)) for role in roles]
        await stop.wait()
        logger.info("draining", extra={"roles": ",".join(roles)})
        _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        for task in late:
            logger.warning("drain_cut_short", extra={"role": task.get_name()})
            task.cancel()


async def _keep(service: Service, role: str, stop: asyncio.Event) -> None:
    """Run a role, and again after a server was away."""
    worker = f"{role}-{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
    async with asyncio.TaskGroup() as group:
        beat = group.create_task(_beat(service, role, worker))
        while not stop.is_set():
            try:
                await ROLES[role](service, worker, stop)
            except Unavailable as error:
                logger.warning("role_waits", extra={"role": role, "error": str(error)})
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS):
                        await stop.wait()
        beat.cancel()
    with suppress(Unavailable):
        await service.workers.leave(worker)


async def _beat(service: Service, role: str, worker: str) -> None:
    while True:
        with suppress(Unavailable):
            await service.workers.beat(worker, role, {})
        await asyncio.sleep(BEAT_SECONDS)
