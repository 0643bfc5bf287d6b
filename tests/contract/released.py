"""Databases as released versions left them: `tests/golden/schemas/NNNN.sql`, tables and rows.

They are written once and never again, by the program of that version:

    python -m tests.contract.released

writes that of the newest version of the schema, with a row or more in every table. 0001 and 0002
have what the first release wrote into the tables that these versions have.
"""

import asyncio
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adapters.embedded.postgres import _programs
from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.applications import PostgresApplications
from adapters.postgres.connection import SCHEMA, Database, open_database
from adapters.postgres.cursors import PostgresCursors
from adapters.postgres.flow_ranges import PostgresFlowRanges
from adapters.postgres.leaders import PostgresLeaders
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from adapters.postgres.schema import migrations, upgrade
from adapters.postgres.views import PostgresViews
from adapters.postgres.workers import PostgresWorkers
from domain.model.flow import Flow, FlowRange
from domain.model.generation import Generation
from domain.model.recorded import Command
from domain.ports import Lease
from tests.contract.builders import CONTEXT, application, command, create, draft, pending

SCHEMAS = Path(__file__).parents[1] / "golden" / "schemas"
FOREVER = 1e9  # seconds


def released() -> dict[int, str]:
    """What every version left, as SQL."""
    return {int(path.stem): path.read_text() for path in sorted(SCHEMAS.glob("*.sql"))}


async def write_history(database: Database) -> None:
    """A row or more in every table."""
    async with PostgresLedger(database) as ledger:
        await ledger.append(command("one", application(1, receipts=2)))
        await ledger.append(Command("nothing", [], CONTEXT))
        await ledger.append(command("two", application(2), application(3, receipts=1)))
        flow = Flow("m", "flow/docs", "route", "0" * 32, 1, 10, "", {})
        await ledger.append(command("flow", flow))
        docs, code = await create(ledger, "docs__g1"), await create(ledger, "code__g1")
        await _record(ledger, flow, docs, code)
        await _apply(database, ledger, docs, code)
        await _work(database, ledger, flow)


async def _record(ledger: PostgresLedger, flow: Flow, docs: Any, code: Any) -> None:
    await ledger.record("docs 1", CONTEXT, [draft(docs, {n: n * 10 for n in range(1, 8)})])
    await ledger.record("docs 2", CONTEXT, [draft(docs, {1: 11, 2: None, 9: 90})])
    result = FlowRange(str(flow.id), "route", 0, 3, {str(code): 2}, {}, {}, None)
    drafts = [draft(docs, {3: 33}), draft(code, {1: 1, 2: 2})]
    await ledger.record("both", CONTEXT, drafts, pending(result))
    made = await ledger.load(Generation, docs)
    assert made is not None
    made.point_alias("docs", previous=None)
    await ledger.append(command("alias", made))


async def _apply(database: Database, ledger: PostgresLedger, docs: Any, code: Any) -> None:
    await PostgresObjects(database).put(b"a small body")
    applications = PostgresApplications(database, ledger.wakeups)

    async def leased(generation: Any) -> Lease:
        lease = await applications.acquire(generation, "applier 1", FOREVER, 5.0)
        assert lease is not None
        return lease

    await applications.receipt(await leased(docs), 3, 8, CONTEXT)
    await applications.receipt(await leased(code), 1, 0, CONTEXT)
    await applications.dead_letter(await leased(code), 2, "Rejected", "too large", CONTEXT)


async def _work(database: Database, ledger: PostgresLedger, flow: Flow) -> None:
    ranges = PostgresFlowRanges(database)
    await ranges.plan(flow.id, [{"after": ""}, {"after": "00"}])
    claim = await ranges.claim("flow worker", FOREVER)
    assert claim is not None
    await ranges.finish(claim, {"after": "ff"})
    await ranges.claim("flow worker", FOREVER)
    head = await ledger.head()
    async with PostgresLeaders(database).lead("relay", "relay 1") as leadership:
        await PostgresCursors(database).advance("relay", head, leadership)
    views = PostgresViews(database)
    build = await views.open("collections", 1)
    documents = {"docs": {"points": 7}, "code": {"points": 2}}
    await views.publish(await views.store(build, documents, head))
    await PostgresWorkers(database).beat("worker 1", "applier", {"at": "docs"})


def dump(url: str) -> str:
    """A database as SQL that any session can run."""
    written = subprocess.run(
        [
            _programs() / "pg_dump",
            *("--inserts", "--no-owner", "--no-privileges", "--no-comments"),
            *(f"--schema={SCHEMA}", url),
        ],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    lines = [
        line
        for line in written.splitlines()
        if not line.startswith(("--", "\\", "SET ", "SELECT pg_catalog.set_config"))
    ]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return f"SET check_function_bodies = false;\n\n{text}\n"


async def main() -> None:
    version = migrations()[-1].version
    with TemporaryDirectory() as folder:
        async with Supervisor(Path(folder)) as supervisor:
            url = (await start_servers(supervisor, {"postgres"})).database_url or ""
            async with open_database(url) as database:
                await upgrade(database)
                await write_history(database)
            path = SCHEMAS / f"{version:04}.sql"
            path.write_text(await asyncio.to_thread(dump, url))


if __name__ == "__main__":
    asyncio.run(main())
