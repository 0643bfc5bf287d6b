"""Servers that the contract suites run against."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.infra.qdrant import configured_url

START_SECONDS = 30


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC URL of `MIGRATION_LEDGER_QDRANT_URL`, or of an embedded node of our own."""
    if configured := configured_url():
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
