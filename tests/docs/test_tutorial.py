"""The tutorial, run as a reader would: its files written, its commands typed in order."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pages import TUTORIAL, snippets_of

from adapters.settings import PREFIX

START_SECONDS = 60.0
STOP_SECONDS = 40.0


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    server, typed, expected = "", [], []
    for snippet in snippets_of(TUTORIAL):
        if snippet.note.startswith("file: "):
            (tmp_path / snippet.note.removeprefix("file: ")).write_text(snippet.text)
        elif snippet.note == "background":
            server = snippet.text
        elif snippet.language == "sh" and snippet.note != "not run":
            typed.append(snippet.text)
        elif snippet.language == "text":
            expected += [_words(line) for line in snippet.text.splitlines()]

    with _running(server, tmp_path):
        done = subprocess.run(
            ["/bin/bash", "-eu", "-o", "pipefail", "-c", "\n".join(typed)],
            cwd=tmp_path,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    shown = {_words(line) for line in done.stdout.splitlines()}
    assert not [line for line in expected if line not in shown], done.stdout


def _words(line: str) -> str:
    return " ".join(line.split())


def _environment() -> dict[str, str]:
    """As in a new terminal, with the program on the path and a port that nobody else has."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    programs = str(Path(sys.executable).parent)
    return {
        **inherited,
        "PATH": f"{programs}{os.pathsep}{inherited['PATH']}",
        f"{PREFIX}HTTP_PORT": str(_free_port()),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: str, folder: Path) -> Iterator[None]:
    """Runs a command of the tutorial until it says that it is ready, and stops it like ctrl-C."""
    log = folder / "up.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            ["/bin/bash", "-c", f"exec {command}"],
            cwd=folder,
            env=_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while "\nready" not in log.read_text():
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            server.send_signal(signal.SIGINT)
            try:
                status = server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise
    assert status == 0, log.read_text()
