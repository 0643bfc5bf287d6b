"""Stopping some children of a supervisor while others go on."""

from pathlib import Path

from adapters.embedded.supervisor import Supervisor
from tests.unit.adapters.test_supervisor import LINGER, SAY_READY, is_alive, program, running


async def test_some_children_are_stopped_and_not_started_again(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        for name in ("server", "worker", "other worker"):
            await supervisor.start(program(supervisor, name, SAY_READY, LINGER))
        server = running(supervisor, "server")
        workers = [running(supervisor, name) for name in ("worker", "other worker")]

        await supervisor.stop(["worker", "other worker"])

        assert not any(is_alive(pid) for pid in workers)
        assert [supervisor.pid(name) for name in ("worker", "other worker")] == [None, None]
        assert is_alive(server)


async def test_stopping_what_does_not_run_does_nothing(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.stop(["never started"])
