"""The supervisor, with small programs as children."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.embedded import launch
from adapters.embedded.data_dir import FolderLock, choose_ports
from adapters.embedded.failures import DataDirInUse, ProcessFailed
from adapters.embedded.process import ChildProcess, ProcessSpec
from adapters.embedded.supervisor import BackOff, Supervisor
from domain.model.errors import Rejected

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
SAY_READY = "print('ready', flush=True)"
LINGER = "import signal; signal.pause()"


async def eventually(check: Callable[[], bool], within: float = 20.0) -> None:
    """Returns when ``check`` is true; fails after ``within`` seconds."""
    async with asyncio.timeout(within):
        while True:
            if check():
                return
            await asyncio.sleep(0.01)


def program(supervisor: Supervisor, name: str, *statements: str, **fields: Any) -> ProcessSpec:
    """A child that runs Python statements, and is ready when it has said so, if it does."""
    log = supervisor.log_path(name)

    async def said_ready() -> bool:
        return "ready" in log.read_text()

    spec: dict[str, Any] = {
        "ready": said_ready if SAY_READY in statements else None,
        "log_path": log,
    }
    argv = (sys.executable, "-c", "\n".join(statements))
    return ProcessSpec(name=name, argv=argv, **(spec | fields))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def running(supervisor: Supervisor, name: str) -> int:
    pid = supervisor.pid(name)
    assert pid is not None
    return pid


@contextlib.contextmanager
def orphan(descriptor: int) -> Iterator[None]:
    """A process that holds the descriptor."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(descriptor,)) as process:
        yield
        process.kill()


def open_files(pid: int) -> set[Path]:
    return {each.resolve() for each in Path(f"/proc/{pid}/fd").iterdir()}


class TestBackOff:
    def test_doubles_up_to_its_most(self) -> None:
        back_off = BackOff(first=0.1, most=1.0, calm=30.0)
        assert [back_off.after(0.0) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]

    def test_begins_again_after_a_calm_run(self) -> None:
        back_off = BackOff(first=0.1, most=5.0, calm=30.0)
        delays = [back_off.after(lived) for lived in (0.0, 0.0, 29.9, 30.0, 0.0)]
        assert delays == [0.1, 0.2, 0.4, 0.1, 0.2]


class TestStart:
    async def test_waits_until_the_child_is_ready(self, tmp_path: Path) -> None:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(program(supervisor, "one", SAY_READY, LINGER))
            assert supervisor.log_path("one").read_text() == "ready\n"
            assert is_alive(running(supervisor, "one"))

    async def test_a_child_that_ends_fails_with_its_last_lines_of_this_run(
        self, tmp_path: Path
    ) -> None:
        async with Supervisor(tmp_path) as supervisor:
            log = supervisor.log_path("one")
            log.parent.mkdir()
            log.write_text("a line of yesterday\n")
            spec = program(supervisor, "one", "print('ouch'); raise SystemExit(3)", SAY_READY)
            with pytest.raises(ProcessFailed) as failure:
                await supervisor.start(spec)
            assert failure.value.exit_status == 3
            assert failure.value.last_lines == "ouch"
            assert str(log) in str(failure.value)
            assert supervisor.pid("one") is None

    async def test_a_child_that_is_never_ready_is_stopped(self, tmp_path: Path) -> None:
        seen: list[int] = []
        async with Supervisor(tmp_path) as supervisor:

            async def never() -> bool:
                seen.append(running(supervisor, "one"))
                return False

            spec = program(supervisor, "one", LINGER, ready=never, ready_timeout=0.3)
            with pytest.raises(ProcessFailed) as failure:
                await supervisor.start(spec)
            assert failure.value.exit_status is None
            assert not is_alive(seen[0])

    async def test_a_stranger_that_answers_in_place_of_a_dead_child_is_noticed(
        self, tmp_path: Path
    ) -> None:
        async with Supervisor(tmp_path) as supervisor:

            async def answers_when_the_child_is_gone() -> bool:
                await eventually(lambda: supervisor.pid("one") is None)
                return True

            spec = program(supervisor, "one", "pass", ready=answers_when_the_child_is_gone)
            with pytest.raises(ProcessFailed):
                await supervisor.start(spec)

    async def test_a_program_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        async with Supervisor(tmp_path) as supervisor:
            log = supervisor.log_path("one")
            with pytest.raises(ProcessFailed, match=r"launch: .*No such file"):
                await supervisor.run(ProcessSpec("one", ("/nonexistent/program",), log))

    async def test_a_name_is_started_once(self, tmp_path: Path) -> None:
        async with Supervisor(tmp_path) as supervisor:
            spec = program(supervisor, "one", LINGER)
            await supervisor.start(spec)
            with pytest.raises(Rejected, match="one"):
                await supervisor.start(spec)

    async def test_a_cancelled_start_leaves_no_child_and_can_be_repeated(
        self, tmp_path: Path
    ) -> None:
        async with Supervisor(tmp_path) as supervisor:
            probed = asyncio.Event()
            pids: list[int] = []

            async def never() -> bool:
                pids.append(running(supervisor, "one"))
                probed.set()
                return False

            async with asyncio.TaskGroup() as group:
                spec = program(supervisor, "one", LINGER, ready=never)
                starting = group.create_task(supervisor.start(spec))
                await probed.wait()
                starting.cancel()
            assert starting.cancelled()
            assert not is_alive(pids[0])
            await supervisor.start(program(supervisor, "one", LINGER))


class TestRestart:
    async def test_a_child_that_dies_is_started_again_and_logged(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(program(supervisor, "one", LINGER))
            first = running(supervisor, "one")
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: supervisor.pid("one") not in (None, first))
            second = running(supervisor, "one")
        [record] = [each for each in caplog.records if each.message == "process_restarted"]
        fields = vars(record)
        assert (fields["child"], fields["pid"], fields["exit_status"]) == ("one", second, -9)

    async def test_it_goes_on_restarting(self, tmp_path: Path) -> None:
        count = tmp_path / "count"
        async with Supervisor(tmp_path / "data") as supervisor:
            append = f"open({str(count)!r}, 'a').write('x')"
            await supervisor.start(program(supervisor, "one", append))
            await eventually(lambda: count.exists() and len(count.read_text()) >= 3)

    async def test_an_error_of_the_monitor_is_raised(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_child: ChildProcess) -> None:
            raise ZeroDivisionError

        seen: list[int] = []

        async def run() -> None:
            async with Supervisor(tmp_path) as supervisor:
                await supervisor.start(program(supervisor, "one", LINGER))
                await supervisor.start(program(supervisor, "two", LINGER))
                seen.append(running(supervisor, "two"))
                monkeypatch.setattr(ChildProcess, "spawn", broken)
                os.kill(running(supervisor, "one"), signal.SIGKILL)
                await asyncio.Event().wait()

        with pytest.raises(ExceptionGroup) as failure:
            await run()
        assert failure.group_contains(ZeroDivisionError)
        assert not is_alive(seen[0])

    async def test_an_error_of_the_body_is_raised_as_it_is(self, tmp_path: Path) -> None:
        async def run() -> None:
            async with Supervisor(tmp_path) as supervisor:
                await supervisor.start(program(supervisor, "one", LINGER))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await run()


class TestStop:
    async def test_children_are_stopped_in_reverse_order(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with Supervisor(tmp_path) as supervisor:
            for name in ("one", "two", "three"):
                await supervisor.start(program(supervisor, name, LINGER))
        stopped = [vars(each) for each in caplog.records if each.message == "process_stopped"]
        assert [each["child"] for each in stopped] == ["three", "two", "one"]
        assert [each["exit_status"] for each in stopped] == [-signal.SIGTERM] * 3

    async def test_the_signal_is_that_of_the_spec(self, tmp_path: Path) -> None:
        trap = "signal.signal(signal.SIGINT, lambda *_: exit(print('fast')))"
        statements = ("import signal", trap, SAY_READY, LINGER)
        async with Supervisor(tmp_path) as supervisor:
            spec = program(supervisor, "one", *statements, stop_signal=signal.SIGINT)
            await supervisor.start(spec)
        assert supervisor.log_path("one").read_text() == "ready\nfast\n"

    async def test_a_signal_while_the_child_is_being_launched_is_not_lost(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Supervisor(tmp_path) as supervisor:
            log = supervisor.log_path("one")
            argv = ("/bin/sleep", "60")
            spec = ProcessSpec("one", argv, log, stop_signal=signal.SIGINT, stop_timeout=2.0)
            for step in range(100):
                await supervisor.start(spec)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(step * 0.0004):
                        await asyncio.Event().wait()
                await supervisor.stop_all()
                assert supervisor.pid("one") is None
                assert "process_killed" not in [each.message for each in caplog.records]

    async def test_a_child_that_does_not_listen_is_killed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Supervisor(tmp_path) as supervisor:
            statements = (STUBBORN, SAY_READY, "while True: signal.pause()")
            await supervisor.start(program(supervisor, "one", *statements, stop_timeout=0.2))
            pid = running(supervisor, "one")
        assert not is_alive(pid)
        assert "process_killed" in [each.message for each in caplog.records]

    async def test_a_second_cancellation_kills_at_once(self, tmp_path: Path) -> None:
        async with Supervisor(tmp_path) as supervisor:
            statements = (STUBBORN, SAY_READY, "while True: signal.pause()")
            for name in ("one", "two"):
                spec = program(supervisor, name, *statements, stop_timeout=3600.0)
                await supervisor.start(spec)
            pids = [running(supervisor, name) for name in ("one", "two")]
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(supervisor.stop_all())
                await eventually(lambda: supervisor.pid("two") is None)
                stopping.cancel()
            assert stopping.cancelled()
            assert not any(map(is_alive, pids))


class TestLogs:
    async def test_a_log_is_appended_to_and_moved_away_when_large(self, tmp_path: Path) -> None:
        async with Supervisor(tmp_path) as supervisor:
            log = supervisor.log_path("one")
            say = program(supervisor, "one", "print('x' * 6 * 1024 * 1024)")
            await supervisor.run(say)
            await supervisor.run(say)
            assert log.stat().st_size > 12 * 1024 * 1024
            await supervisor.run(say)
            assert log.stat().st_size < 7 * 1024 * 1024
            assert log.with_name("one.log.1").stat().st_size > 12 * 1024 * 1024


class TestFolder:
    async def test_a_second_supervisor_is_refused_with_the_pid_of_the_first(
        self, tmp_path: Path
    ) -> None:
        async with Supervisor(tmp_path):
            with pytest.raises(DataDirInUse, match=str(os.getpid())) as refusal:
                async with Supervisor(tmp_path):
                    pass
            assert refusal.value.pid == os.getpid()
        async with Supervisor(tmp_path):
            pass

    async def test_a_successor_waits_for_orphans(self, tmp_path: Path) -> None:
        first = await FolderLock.acquire(tmp_path)
        with orphan(first.inherited):
            first.release()
            with pytest.raises(DataDirInUse, match="earlier run"):
                await FolderLock.acquire(tmp_path, patience=0.1)
        (await FolderLock.acquire(tmp_path)).release()

    async def test_every_child_holds_the_folder(self, tmp_path: Path) -> None:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(program(supervisor, "one", SAY_READY, LINGER))
            held = open_files(running(supervisor, "one"))
            assert tmp_path / "children.lock" in held

    async def test_it_is_private(self, tmp_path: Path) -> None:
        async with Supervisor(tmp_path / "new"):
            assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


class TestPorts:
    def test_they_are_kept(self, tmp_path: Path) -> None:
        first = choose_ports(tmp_path, {"a", "b"})
        assert len(set(first.values())) == 2
        assert choose_ports(tmp_path, {"a", "b"}) == first
        assert json.loads((tmp_path / "ports.json").read_text()) == first

    def test_one_that_is_taken_is_replaced_and_the_new_one_kept(self, tmp_path: Path) -> None:
        first = choose_ports(tmp_path, {"a", "b"})
        with socket.create_server(("127.0.0.1", first["a"])):
            second = choose_ports(tmp_path, {"a", "b"})
        assert second["a"] != first["a"]
        assert second["b"] == first["b"]
        assert choose_ports(tmp_path, {"a"}) == {"a": second["a"]}

    def test_a_damaged_record_is_as_good_as_none(self, tmp_path: Path) -> None:
        (tmp_path / "ports.json").write_text('{"a": 1')
        assert choose_ports(tmp_path, {"a"})["a"] > 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
class TestLaunchAsRoot:
    STATUS = ("/bin/cat", "/proc/self/status")

    def launch(self, reach: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
        arguments = (str(os.getpid()), "9", "65534:65534", str(reach), "--", *self.STATUS)
        return subprocess.run(
            [*prefix, sys.executable, "-I", "-S", launch.__file__, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    def fields(self, done: subprocess.CompletedProcess[str]) -> dict[str, str]:
        assert done.returncode == 0, done.stderr
        pairs = (line.split(":", 1) for line in done.stdout.splitlines())
        return {name: value.strip() for name, value in pairs}

    def test_a_user_who_can_reach_everything_gets_no_capability(self) -> None:
        status = self.fields(self.launch(Path("/bin/cat")))
        assert set(status["Uid"].split()) == {"65534"}
        assert set(status["Gid"].split()) == {"65534"}
        assert status["Groups"] == ""
        assert int(status["CapPrm"], 16) == 0
        assert int(status["CapAmb"], 16) == 0

    def test_below_a_private_folder_it_keeps_the_one_that_opens_it(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        inside = tmp_path / "inside"
        inside.mkdir()
        status = self.fields(self.launch(inside))
        assert set(status["Uid"].split()) == {"65534"}
        only_dac_override = 1 << 1
        assert int(status["CapEff"], 16) == only_dac_override
        assert int(status["CapPrm"], 16) == only_dac_override

    @pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
    def test_where_it_may_not_be_given_the_error_says_the_way_out(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        inside = tmp_path / "inside"
        inside.mkdir()
        done = self.launch(inside, "setpriv", "--bounding-set=-dac_override")
        assert done.returncode == launch.CANNOT_RUN
        assert str(inside) in done.stderr
        assert "--data-dir" in done.stderr
