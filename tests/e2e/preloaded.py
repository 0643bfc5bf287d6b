"""Commands as processes of their own that need not read the program first: they are forked.

To start Python and import the program takes most of the time of a short command. A process that has
done so once forks for each command, which then has its own arguments, folder, environment, output
and exit status, and dies alone.
"""

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import NoReturn

_REQUEST_BYTES = 2**17


async def run_preloaded(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[int, str, str]:
    """Run a command to its end: exit status, standard output and error; cancelled, it is killed."""
    request = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
    ours, theirs = socket.socketpair()
    with TemporaryFile() as out, TemporaryFile() as err:
        with theirs:
            socket.send_fds(_control(), [request], [out.fileno(), err.fileno(), theirs.fileno()])
        reader, writer = await asyncio.open_connection(sock=ours)
        pid, status = int(await reader.readline()), ""
        try:
            status = (await reader.readline()).decode()
        finally:
            writer.close()
            if not status:
                os.kill(pid, signal.SIGKILL)
        return int(status), _content(out.fileno()), _content(err.fileno())


def _content(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", closefd=False) as content:
        return content.read().decode()


@cache
def _control() -> socket.socket:
    """The socket of a process that forks; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.preloaded", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(control: socket.socket) -> None:
    """Fork for each request until nobody is there who asks."""
    import adapters.cli.main  # noqa: F401, PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    while True:
        request, files, *_ = socket.recv_fds(control, _REQUEST_BYTES, 3)
        if not request:
            return
        if os.fork() == 0:
            control.close()
            _wait(request, *files)
        for file in files:
            os.close(file)


def _wait(request: bytes, out: int, err: int, reply: int) -> NoReturn:
    """Fork the command, and say which process it is, and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(reply)
        _command(request, out, err)
    # Who has waited too long is gone.
    with suppress(BrokenPipeError), os.fdopen(reply, "w") as told:
        print(pid, file=told, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=told, flush=True)
    os._exit(0)


def _command(request: bytes, out: int, err: int) -> NoReturn:
    from adapters.cli.main import main  # noqa: PLC0415

    arguments, folder, environment = json.loads(request)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["migration-ledger", *arguments]
    main()
    sys.exit()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
