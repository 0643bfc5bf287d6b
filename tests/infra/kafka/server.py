"""A broker of Apache Kafka in KRaft mode, one node on loopback ports, its data in a folder."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from adapters.embedded import launch
from adapters.embedded.probes import answers_kafka
from adapters.kafka.settings import KafkaSettings
from tests.infra.kafka.artifacts import LOGGING, libraries

START_SECONDS = 60
_JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_ARCHIVE = "classes.jsa"
# Kafka's own defaults, except for what one node cannot do or what only takes time and memory.
# Topics are created by asking for them, as on any broker that nobody has told not to.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker may register again when its session has ended.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
}


@dataclass(frozen=True)
class Listener:
    """A port that a broker answers on, besides the plaintext one that it always has.

    Attributes:
        name: of the listener, in capitals.
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        properties: of this listener alone, without their prefix.
    """

    name: str
    protocol: str
    properties: Mapping[str, str] = field(default_factory=dict)


class Kafka:
    """A broker that keeps its data until it is wiped.

    Args:
        folder: an empty folder for its data, its configuration and its log.
        port: that PLAINTEXT answers on; any that is free without it.
        listeners: besides PLAINTEXT.
        properties: of the broker, over ours.
        users: `SCRAM-SHA-512=[name=…,password=…]`, as `kafka-storage.sh --add-scram` takes them.

    Attributes:
        bootstrap: of the plaintext listener.
        log_path: what it says.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        listeners: Sequence[Listener] = (),
        properties: Mapping[str, str] | None = None,
        users: Sequence[str] = (),
    ) -> None:
        self.log_path = folder / "kafka.log"
        self._folder = folder
        self._listeners = (Listener("PLAINTEXT", "PLAINTEXT"), *listeners)
        self._users = users
        names = [listener.name for listener in self._listeners]
        self._ports = dict(zip([*names, "CONTROLLER"], _free_ports(len(names) + 1), strict=True))
        self._ports["PLAINTEXT"] = port or self._ports["PLAINTEXT"]
        self._properties = {**_PROPERTIES, **self._placed(), **(properties or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        self.bootstrap = self.bootstrap_of("PLAINTEXT")

    def _placed(self) -> dict[str, str]:
        protocols = {one.name: one.protocol for one in self._listeners} | {
            "CONTROLLER": "PLAINTEXT"
        }
        return {
            "log.dirs": str(self._data),
            "controller.quorum.voters": f"1@127.0.0.1:{self._ports['CONTROLLER']}",
            "listeners": ",".join(f"{n}://127.0.0.1:{p}" for n, p in self._ports.items()),
            "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
        } | {
            f"listener.name.{listener.name.lower()}.{name}": value
            for listener in self._listeners
            for name, value in listener.properties.items()
        }

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _configuration(self) -> Path:
        return self._folder / "server.properties"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def settings(self) -> KafkaSettings:
        """How the product reaches it."""
        return KafkaSettings(self.bootstrap)

    def bootstrap_of(self, listener: str) -> str:
        """Where a listener answers."""
        return f"127.0.0.1:{self._ports[listener]}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.kill()

    async def start(self, *options: str) -> None:
        """Start it, with the data that it had or with none; one that is frozen is killed first.

        Returns when its cluster has it: before that it answers, and leads no partition. A frozen
        one has left the cluster, and finds that out some time after it thaws.

        Args:
            options: of the JVM.
        """
        if self._frozen:
            self.kill()
        program = await self.program(*options)
        if self._process is None:
            self._spawn(program)
        async with asyncio.timeout(START_SECONDS):
            while not await self.ready():
                self._check_alive()

    async def program(self, *options: str) -> tuple[str, ...]:
        """The command that runs it, for who starts it himself; data folders are made now."""
        if not self._data.exists():
            await asyncio.to_thread(self._format)
        return (*_java("kafka.Kafka", *options), str(self._configuration))

    async def ready(self) -> bool:
        """Whether it answers and its cluster has it."""
        if not await answers_kafka(self._ports["PLAINTEXT"]):
            return False
        client = AIOKafkaClient(**self.settings.client_arguments())
        try:
            await client.bootstrap()
            return client.get_random_node() is not None
        except KafkaError:
            return False
        finally:
            await client.close()

    def stop(self) -> None:
        """Let it end in order."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(START_SECONDS)
        self._process = None

    def kill(self) -> None:
        """End it at once, frozen or not; its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._frozen = False

    def wipe(self) -> None:
        """End it at once, and its data with it."""
        self.kill()
        shutil.rmtree(self._data)

    def freeze(self) -> None:
        """Stop the process where it is; its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def _format(self) -> None:
        self._configuration.write_text(
            "".join(f"{name}={value}\n" for name, value in self._properties.items()),
            encoding="utf-8",
        )
        users = [part for user in self._users for part in ("--add-scram", user)]
        made = ("format", "--cluster-id", uuid4().hex[:22], "--config", str(self._configuration))
        with self.log_path.open("ab") as log:
            subprocess.run(
                (*_java("kafka.tools.StorageTool"), *made, *users),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=START_SECONDS,
                check=True,
            )

    def _spawn(self, program: Sequence[str]) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                (
                    # It ends with the thread that starts it, so it is not started in a pool.
                    *(sys.executable, "-I", "-S", launch.__file__),
                    *(str(os.getpid()), str(int(signal.SIGKILL)), "-", "--"),
                    *program,
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _check_alive(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            log = self.log_path.read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"Kafka did not start:\n{log[-4000:]}")


@contextlib.asynccontextmanager
async def running_kafka() -> AsyncIterator[Kafka]:
    """A broker in a folder of its own, both gone at the end."""
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder:
        async with Kafka(Path(folder)) as kafka:
            yield kafka


async def archive_classes() -> None:
    """Keep what a broker loads in a file, with which others start in half the time (JEP 350)."""
    archive = libraries() / _ARCHIVE
    if archive.exists():
        return
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=libraries()) as folder:
        kafka = Kafka(Path(folder))
        made = Path(folder, _ARCHIVE)
        try:
            await kafka.start(f"-XX:ArchiveClassesAtExit={made}")
            await asyncio.to_thread(kafka.stop)
        finally:
            kafka.kill()
        await asyncio.to_thread(made.replace, archive)


def _java(main: str, *options: str) -> tuple[str, ...]:
    java = shutil.which("java")
    assert java is not None
    archive = libraries() / _ARCHIVE
    archived = (f"-XX:SharedArchiveFile={archive}",) if archive.exists() else ()
    return (
        *(java, *_JVM, *archived, *options, f"-Dlog4j2.configurationFile={LOGGING}"),
        *("-cp", f"{libraries()}/*", main),
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
