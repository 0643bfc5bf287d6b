"""What workers do: one coroutine for each role, and the process that runs some of them."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import uuid4

from adapters.bootstrap import Service, open_service
from adapters.cli.complaints import Complaints
from adapters.settings import Settings
from domain.model.errors import Halted, Rejected, Unavailable
from domain.model.spec import nearest
from domain.use_cases.apply_changes import Applier
from domain.use_cases.concurrently import concurrently, told_to
from domain.use_cases.pack import pack_regularly
from domain.use_cases.project import project
from domain.use_cases.relay import relay
from domain.use_cases.run_migration import coordinate
from domain.use_cases.sweep import retain_regularly
from domain.use_cases.verify_regularly import verify_regularly
from domain.use_cases.work_flows import work_flows
from projections import PROJECTIONS

logger = logging.getLogger("migration_ledger.worker")

BEAT_SECONDS = 3.0
DRAIN_SECONDS = 10.0
LAST_SECONDS = 28
"""After SIGTERM: what is under way may take the first, and the process ends within the second."""
RETRY_SECONDS = 0.5
HALTED_SECONDS = 5.0
WAIT_SECONDS = 1.0
COMPLAINTS = Complaints()

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
    tools, leaders, settings = service.tools, service.leaders, service.settings
    work = [coordinate(tools, leaders, worker, stop)]
    if settings.verify_every is not None:
        work.append(verify_regularly(tools, leaders, worker, settings.verify_every, stop))
    if settings.pack_every is not None:
        work.append(pack_regularly(tools, leaders, worker, settings.pack_every, stop))
    if settings.retain_every is not None:
        garbage = service.garbage
        every = settings.retain_every
        work.append(retain_regularly(tools, garbage, leaders, worker, every, stop))
    await concurrently(work, len(work))


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


async def run_roles(settings: Settings, roles: Sequence[str]) -> None:
    """Run roles until SIGTERM or SIGINT; then finish what is under way, for 10 seconds at most."""
    logging.getLogger("migration_ledger").addHandler(COMPLAINTS)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    drain = asyncio.timeout(None)

    def end() -> None:
        if not stop.is_set():
            logger.info("draining", extra={"roles": ",".join(roles)})
            stop.set()
            drain.reschedule(loop.time() + DRAIN_SECONDS)
            # Whatever does not let itself be cancelled, the kernel ends.
            signal.alarm(LAST_SECONDS)

    try:
        async with drain:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, end)
            await _run_roles(settings, roles, stop)
    except TimeoutError:
        if not drain.expired():
            raise


async def _run_roles(settings: Settings, roles: Sequence[str], stop: asyncio.Event) -> None:
    """Wait for the database, and run roles until they have stopped."""
    while not stop.is_set():
        try:
            async with open_service(settings) as service:
                await work(service, roles, stop)
        except Unavailable as error:
            logger.warning("waiting_for_database", extra={"error": str(error)})
            await _until(stop, WAIT_SECONDS)


async def work(service: Service, roles: Sequence[str], stop: asyncio.Event) -> None:
    """Run roles until told to stop; what is under way is finished."""
    async with asyncio.TaskGroup() as group:
        kept = [group.create_task(_keep(service, role, stop)) for role in roles]
        await told_to(stop, *kept)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


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
                halted = isinstance(error, Halted)
                await _until(stop, HALTED_SECONDS if halted else RETRY_SECONDS)
            except asyncio.CancelledError:
                if stop.is_set():
                    logger.warning("drain_cut_short", extra={"role": role})
                raise
        beat.cancel()
    with suppress(Unavailable):
        await service.workers.leave(worker)


async def _beat(service: Service, role: str, worker: str) -> None:
    while True:
        reason = COMPLAINTS.of(role)
        with suppress(Unavailable):
            await service.workers.beat(worker, role, {"waits": reason} if reason else {})
        await asyncio.sleep(BEAT_SECONDS)
