"""Private memory of every process while a migration runs, small and ten times as large."""

import asyncio

from adapters.cli.roles import ROLES
from bench.migrating import make, migrate, warm_up
from bench.processes import private_bytes
from bench.report import Report, Row, limit, table
from bench.servers import Running, running
from domain.use_cases.bodies import CACHE_BYTES

NAME = "memory"
SIZES = (50_000, 500_000)
QUICK_SIZES = (500, 2_000)
DIMENSION = 128
SOURCES = 8
SAMPLE_SECONDS = 0.1
APPLICATION = "knowledge"
LIMIT_MEBIBYTES = 400
FLAT = 0.8
"""What is taken for small, of what is taken for ten times as much."""

MEBIBYTE = 2**20

_EXPLANATION = """\
The peak of the memory that a process shares with no other (`Private_Clean` and `Private_Dirty` of
`/proc/PID/smaps_rollup`), sampled every {every:.0f} ms while a whole migration runs, its check
included, in new folders with new servers. {small:,} points are migrated and {large:,}, of
{dimension} dimensions with texts of 40 words. Bodies that an applier keeps are bounded at {kept}
MiB of their encoded size, and what is in flight by batches, so larger vectors take up to the same
bounds. Servers beside them: PostgreSQL's processes together; the node holds the points that it
serves."""


async def run(*, quick: bool = False) -> Report:
    """Migrate a small and a large collection, and compare the peaks."""
    small, large = QUICK_SIZES if quick else SIZES
    peaks = {count: await _peaks(count) for count in (small, large)}
    rows = [
        limit(f"{role}, {large:,} points", peaks[large][role], LIMIT_MEBIBYTES, "MiB")
        for role in ROLES
    ]
    rows += [
        Row(
            f"{role}, growth",
            f"{peaks[large][role]:.0f} MiB",
            f"{peaks[small][role]:.0f} MiB at {small:,} points",
            peaks[small][role] / peaks[large][role],
            FLAT,
        )
        for role in ROLES
    ]
    servers = [name for name in peaks[large] if name not in ROLES]
    beside = table(
        ("server, MiB", *servers),
        [(f"{n:,} points", *(f"{peak[s]:.0f}" for s in servers)) for n, peak in peaks.items()],
    )
    explanation = _EXPLANATION.format(
        every=1000 * SAMPLE_SECONDS,
        small=small,
        large=large,
        dimension=DIMENSION,
        kept=CACHE_BYTES // MEBIBYTE,
    )
    return Report("Memory", rows, [explanation, beside])


async def _peaks(count: int) -> dict[str, float]:
    """The peak of each process in mebibytes, from before the migration until its end."""
    async with running() as stack:
        await warm_up(stack, DIMENSION)
        await make(stack, APPLICATION, count, DIMENSION, SOURCES)
        peaks: dict[str, float] = {}
        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(_sample(stack, peaks))
            await migrate(stack, APPLICATION)
            sampling.cancel()
        return peaks


async def _sample(stack: Running, peaks: dict[str, float]) -> None:
    processes = stack.processes()
    while True:
        for name, pid in processes.items():
            now = await asyncio.to_thread(private_bytes, pid)
            peaks[name] = max(peaks.get(name, 0.0), now / MEBIBYTE)
        await asyncio.sleep(SAMPLE_SECONDS)
