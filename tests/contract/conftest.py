"""Servers that the contract suites run against."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from tests.contract.tansu import Tansu

START_SECONDS = 30


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC URL of `MIGRATION_LEDGER_QDRANT_URL`, or of an embedded node of our own."""
    if configured := os.environ.get("MIGRATION_LEDGER_QDRANT_URL"):
        yield configured
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data_dir: Path = tmp_path_factory.mktemp("qdrant")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "adapters.embedded.node"),
            *("--data-dir", str(data_dir), "--host", "127.0.0.1", "--port", str(port)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(START_SECONDS)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(START_SECONDS)


@pytest.fixture
async def tansu() -> AsyncIterator[Tansu]:
    """A broker of the test's own, to be killed at will."""
    async with Tansu() as broker:
        yield broker


@pytest.fixture
async def kafka_bootstrap() -> AsyncIterator[str]:
    """The configured broker, which remembers earlier tests, or else a new one."""
    configured = os.environ.get("MIGRATION_LEDGER_KAFKA_BOOTSTRAP")
    if configured:
        yield configured
        return
    async with Tansu() as broker:
        yield broker.bootstrap
