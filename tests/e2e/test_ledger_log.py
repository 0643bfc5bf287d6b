"""The ledger's log as those see it who watch it, and who suspect it."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.postgres.connection import open_database
from adapters.postgres.ledger import PostgresLedger
from tests.contract.builders import application, command
from tests.contract.tampering import forget_after, keep, put_back, tampering, write_hashes_anew
from tests.e2e.application import build, write_spec
from tests.e2e.program import Up, environment, running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("ledger log"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """The stack after one small migration."""
    async with running(tmp_path_factory.mktemp("log")) as up:
        application = await build("a", up.url("database"), up.url("qdrant"), points=30)
        await application.qdrant.close()
        applied = await up.run("apply", str(write_spec(application, up.folder)), "--yes")
        assert applied.status == 0, applied.out + applied.err
        yield up


def note(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


async def test_what_somebody_with_all_rights_did_at_night_is_found_in_the_morning(up: Up) -> None:
    evening = await up.run("log", "verify")
    assert evening.status == 0, evening.err
    assert evening.out.startswith("unaltered  ")
    noted = note(up.folder / "noted.txt", evening.out)
    [planned] = (await up.run("log", "events", "--topic", "migration.planned", "--json")).documents
    culprit = planned["position"]

    async with tampering(up.url("database")) as owner:
        await keep(owner)
        await owner.execute(
            "UPDATE events SET context = convert_to(replace(convert_from(context, 'UTF8'),"
            " 'domain isolation', 'nothing special'), 'UTF8') WHERE position = $1",
            culprit,
        )
    morning = await up.run("log", "verify")
    assert morning.status == 1
    assert morning.out.startswith(f"altered  event {culprit} is not what was recorded")

    async with tampering(up.url("database")) as owner:
        await write_hashes_anew(owner, culprit)
    assert (await up.run("log", "verify")).status == 0
    compared = await up.run("log", "verify", "--against", noted)
    assert compared.status == 1
    assert "is not the one that was noted" in compared.out

    async with tampering(up.url("database")) as owner:
        await put_back(owner)
        await forget_after(owner, 20)
    shortened = await up.run("log", "verify", "--against", noted, "--json")
    assert (shortened.status, shortened.document["position"]) == (1, 21)
    assert "event 21 is missing from the ledger: it ends at 20" in shortened.document["problem"]

    async with tampering(up.url("database")) as owner:
        await put_back(owner)
    assert (await up.run("log", "verify", "--against", noted)).status == 0


async def test_an_engineer_on_call_sees_who_did_what_and_why(up: Up) -> None:
    shown = await up.run("log", "events", "--topic", "migration.", "--limit", "5")
    assert shown.status == 0, shown.err
    assert "migration.completed" in shown.out
    first = await up.run("log", "events", "--after", "0", "--limit", "1")
    assert "migration.planned" in first.out
    assert "domain isolation" in first.out
    ended = await up.run("log", "events", "--json")
    assert len(ended.documents) == 50
    assert '"text 1' not in ended.out  # a payload


async def add_events(up: Up, key: str, number: int, receipts: int) -> None:
    """Append to the ledger beside its workers."""
    async with (
        open_database(up.url("database")) as database,
        PostgresLedger(database) as ledger,
    ):
        await ledger.append(command(key, application(number, receipts=receipts)))


async def test_following_goes_on_with_new_events_until_ctrl_c(up: Up) -> None:
    process = await up.start("log", "events", "--json", "--follow", "--limit", "2")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        found = [await process.stdout.readline() for _ in range(2)]
        await add_events(up, "followed", 1, receipts=2)
        found += [await process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == 130
    assert (out, b"Traceback" in err) == (b"", False)
    positions = [json.loads(line)["position"] for line in found]
    assert positions == list(range(positions[0], positions[0] + 5))


async def test_who_reads_the_output_may_stop(up: Up) -> None:
    """As `head` does, which closes its end; there is more than a pipe holds."""
    await add_events(up, "many", 2, receipts=500)
    for arguments in (("--json",), ()):
        process = await asyncio.create_subprocess_exec(
            "bash",
            *(
                "-c",
                'set -o pipefail; "$@" | head -n 1',
                "bash",
                sys.executable,
                "-m",
                "adapters.cli",
                "log",
            ),
            *("events", "--limit", "500", "--data-dir", str(up.data_dir), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=up.folder,
            env=environment(up.settings),
        )
        out, err = await process.communicate()
        assert len(out.splitlines()) == 1
        assert (process.returncode, err) == (0, b"")
