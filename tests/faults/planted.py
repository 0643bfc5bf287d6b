"""Bugs that are planted in a copy of the product, to see that the harness finds them.

The list is `planted.md`. Where the product has a second safety net under a bug, that one is taken
away too; `planted.md` says so.
"""

from dataclasses import dataclass

from tests.faults.schedule import APPLIERS, QDRANT, Aim, Kind
from tests.faults.source import Replacement

APPLYING = "domain/use_cases/lanes.py"
EFFECTS = "domain/use_cases/change_effects.py"
FLOWS = "domain/use_cases/work_flows.py"
CAPTURE = "domain/use_cases/flows/capture.py"
RELAY = "domain/use_cases/relay.py"
RECORDING = "adapters/postgres/recording.py"
CHANGE_SETS = "adapters/postgres/change_sets.py"

KILLED_WITH_WRITES_UNDER_WAY = tuple(
    aim
    for applier in APPLIERS
    for aim in (
        Aim(Kind.HOLD_REQUESTS, applier, QDRANT, first=12, last=12, seconds=4),
        Aim(Kind.KILL, applier, first=12, last=12, after=1.5),
    )
)
"""Appliers die at changes that were delivered to them, and that the store has not got."""

OFFSET_FIRST = Replacement(
    APPLYING,
    "limit = status.recorded if status.halted_at is not None else status.applied",
    "limit = status.recorded",
)


def _killed(program: str, topic: str, last: int, times: int) -> tuple[Aim, ...]:
    return (Aim(Kind.KILL, program, topic=topic, last=last),) * times


@dataclass(frozen=True)
class Plant:
    """A bug.

    Attributes:
        name: as in `planted.md`.
        replacements: that plant it.
        aims: faults that are likely to show it; without any, the schedule is that of the seed.
        seed: that shows it.
        found_by: the check that finds it then.
    """

    name: str
    replacements: tuple[Replacement, ...]
    aims: tuple[Aim, ...] = ()
    seed: int = 1
    found_by: str = ""


PLANTS = (
    Plant(
        "acknowledged-before-commit",
        (
            Replacement(
                RECORDING,
                "async def record(database: Database, request: Request) -> Outcome:\n",
                """async def record(database: Database, request: Request) -> Outcome:
    early: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def whole() -> None:
        try:
            outcome = await _record(database, request, early)
        except BaseException as error:
            if not early.done():
                early.set_exception(error)
        else:
            if not early.done():
                early.set_result(outcome)

    task = asyncio.create_task(whole())
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)
    return await early


TASKS: set[asyncio.Task[None]] = set()


async def _append_last(early: Any, connection: Any, command: EncodedCommand) -> Outcome:
    outcome = await append_last(connection, command)
    early.set_result(outcome)
    await asyncio.sleep(0.05)
    return outcome


async def _record(database: Database, request: Request, early: Any) -> Outcome:
""",
            ),
            Replacement(
                RECORDING,
                """            return await append_last(
                connection,
                EncodedCommand(
                    key=request.key,""",
                """            return await _append_last(
                early,
                connection,
                EncodedCommand(
                    key=request.key,""",
            ),
        ),
        aims=(
            *_killed("postgres", "application.changes-applied", 60, 1),
            *(Aim(Kind.CUT, "writer", "postgres", "application.changes-applied", last=80),) * 3,
        ),
        found_by="acknowledged",
    ),
    Plant(
        "offset-before-receipt",
        (OFFSET_FIRST,),
        aims=KILLED_WITH_WRITES_UNDER_WAY,
        found_by="offsets",
    ),
    Plant(
        "gap-not-checked",
        (
            Replacement(
                APPLYING,
                "self._generation, after=status.applied, through=status.applied + WINDOW\n"
                "        )\n"
                "        if not events or events[0].version != status.applied + 1:",
                "self._generation, after=(first := self._first(status)), through=first + WINDOW\n"
                "        )\n"
                "        if not events:\n            raise Unavailable('wait')\n        if False:",
            ),
            Replacement(
                APPLYING,
                "    async def _apply_window(",
                """    def _first(self, status: GenerationStatus) -> int:
        return min((d.version for d in self._delivered), default=status.recorded + 1) - 1

    async def _apply_window(""",
            ),
            Replacement(
                APPLYING,
                "        self._delivered.append(change)\n",
                "        self._delivered.append(change)\n        self._complete(change)\n",
            ),
        ),
        aims=KILLED_WITH_WRITES_UNDER_WAY,
        found_by="offsets",
    ),
    Plant(
        "lease-not-awaited",
        (
            Replacement(
                "adapters/postgres/applications.py",
                "b.released OR b.holder = $2 OR b.lease_until + make_interval(secs => $4)"
                " < clock_timestamp()",
                "b.released OR b.holder = $2 OR $4::float8 >= 0",
            ),
        ),
        aims=(
            Aim(Kind.PAUSE, "applier-1", topic="application.changes-applied", last=40, seconds=14),
            Aim(Kind.KILL, "applier-2", topic="migration.completed", last=1),
        ),
        found_by="leases",
    ),
    Plant(
        "older-after-newer",
        (
            Replacement(
                EFFECTS,
                "            await store.delete(physical, sorted(deleted))\n"
                "        return len(last)",
                """            await store.delete(physical, sorted(deleted))
        again: dict[str, list[int]] = defaultdict(list)
        first = manifests[0]
        for row in range(len(first)):
            if first.hashes[row] is not None:
                again[first.objects[first.object_index[row]]].append(first.rows[row])
        if again:
            await store.upsert(physical, await self._bodies.points(again))
        return len(last)""",
            ),
        ),
        aims=tuple(
            Aim(Kind.PAUSE, applier, topic="application.changes-applied", last=40, seconds=3)
            for applier in APPLIERS
        ),
        found_by="written points",
    ),
    Plant(
        "tombstone-lost",
        (
            Replacement(
                EFFECTS,
                "        if deleted:\n            await store.delete(physical, sorted(deleted))\n"
                "        return len(last)",
                "        return len(last)",
            ),
        ),
        aims=_killed("projector", "flow.range-recorded", 4, 1),
        found_by="written points",
    ),
    Plant(
        "cursor-before-acknowledgement",
        (
            Replacement(
                RELAY,
                "                await self._publisher.publish(batch)\n"
                "                self._last = batch[-1].position\n"
                "                cursor = Cursor(batch[-1].position, batch[-1].hash)\n"
                "                await self._cursors.advance(CURSOR, cursor, leadership)\n",
                "                cursor = Cursor(batch[-1].position, batch[-1].hash)\n"
                "                await self._cursors.advance(CURSOR, cursor, leadership)\n"
                "                await asyncio.sleep(0.1)\n"
                "                await self._publisher.publish(batch)\n"
                "                self._last = batch[-1].position\n",
            ),
        ),
        aims=_killed("relay", "application.changes-applied", 60, 3),
        found_by="published",
    ),
    Plant(
        "head-not-updated",
        (
            Replacement(
                "adapters/postgres/heads.py",
                "    if old:\n        keys = sorted(old)",
                "    if not heads:\n        keys = sorted(old)",
            ),
        ),
        aims=_killed("projector", "flow.range-recorded", 4, 1),
        found_by="heads",
    ),
    Plant(
        "object-not-durable",
        (
            Replacement(
                CAPTURE,
                "        address = await tools.objects.put(content)\n",
                """        address = address_of(content)
        asyncio.get_running_loop().call_later(
            0.3, lambda late=content: asyncio.ensure_future(tools.objects.put(late))
        )
""",
            ),
            Replacement(
                CAPTURE,
                "from domain.model.bodies import encode_body",
                "from domain.model.bodies import address_of, encode_body",
            ),
        ),
        aims=_killed("flow", "flow.range-recorded", 8, 3),
        found_by="objects",
    ),
    Plant(
        "receipt-too-far",
        (
            Replacement(
                APPLYING, "lease, batch[-1].version, points,", "lease, status.recorded, points,"
            ),
        ),
        found_by="written points",
    ),
    Plant(
        "view-cursor-first",
        (
            Replacement(
                "adapters/postgres/views.py",
                "                *(deleted, list(written), list(written.values())),\n",
                "                *([], [], []),\n",
            ),
            Replacement(
                "adapters/postgres/views.py",
                "        return replace(build, cursor=cursor)",
                """        if build.live:
            await asyncio.sleep(0.1)
        async with self._database.connection() as connection:
            await connection.fetchval(
                _STORE,
                *(build.number, cursor.position, cursor.hash, cursor.position, cursor.hash),
                *(deleted, list(written), list(written.values())),
            )
        return replace(build, cursor=cursor)""",
            ),
            Replacement(
                "adapters/postgres/views.py",
                "from collections.abc import Mapping, Sequence\n",
                "import asyncio\nfrom collections.abc import Mapping, Sequence\n",
            ),
        ),
        aims=_killed("projector", "application.changes-applied", 60, 3),
        found_by="views",
    ),
    Plant(
        "range-finished-first",
        (
            Replacement(
                FLOWS,
                '    try:\n        await tools.ledger.record(\n            f"flow/',
                "    await tools.ranges.finish(claim, recorded.following)\n"
                '    try:\n        await tools.ledger.record(\n            f"flow/',
            ),
        ),
        aims=_killed("flow", "flow.range-recorded", 30, 6),
        found_by="steps",
    ),
    Plant(
        "key-forgotten",
        (
            Replacement(
                FLOWS,
                """    try:
        await tools.ledger.record(
            f"flow/{claim.flow}/range/{claim.number}",
            context,
            result.drafts,
            pending_events(recorded),
        )""",
                """    await tools.ledger.record(
        f"flow/{claim.flow}/range/{claim.number}/{claim.attempt}", context, result.drafts
    )
    await asyncio.sleep(0.5)
    try:
        await tools.ledger.record(
            f"flow/{claim.flow}/range/{claim.number}",
            context,
            (),
            pending_events(recorded),
        )""",
            ),
            Replacement(
                CHANGE_SETS,
                "        if head_hash == hash_ or (captured_at is not None and "
                "head_version > captured_at):\n            continue\n",
                "",
            ),
        ),
        aims=_killed("flow", "flow.range-recorded", 12, 3),
        found_by="steps",
    ),
    Plant(
        "cut-over-early",
        (
            Replacement(
                "domain/use_cases/steps/flow.py",
                """    await run.applied(
        {(await run.generation(physical)).generation for physical in targets.values()}
    )
""",
                "",
            ),
            Replacement(
                "domain/use_cases/steps/check.py",
                "    return await verified(",
                "    return {}\n    return await verified(",
            ),
            Replacement(
                "domain/use_cases/steps/hand_over.py",
                "        await run.applied([status.generation for status in copies])\n",
                "",
            ),
        ),
        aims=tuple(
            Aim(Kind.PAUSE, applier, topic="flow.range-recorded", first=12, last=15)
            for applier in APPLIERS
        ),
        found_by="cut-over",
    ),
    Plant(
        "position-reused",
        (
            Replacement(
                "adapters/postgres/migrations/0004_append_in_sets.sql",
                "                outcome := 'conflict';\n",
                "                outcome := 'conflict';\n"
                "                _position := _position + 1;\n",
            ),
        ),
        found_by="chain",
    ),
    Plant(
        "window-not-verified",
        (
            Replacement(
                EFFECTS,
                "        if status is None or status.gone:\n            return\n",
                "        if status is None or status.gone or events:\n            return\n",
            ),
        ),
        aims=tuple(
            Aim(Kind.LATE, applier, "qdrant", first=40, last=250, seconds=2.0)
            for applier in ("applier-1", "applier-2") * 4
        ),
        seed=3,
        found_by="written points",
    ),
)
"""Every bug of `planted.md`."""
