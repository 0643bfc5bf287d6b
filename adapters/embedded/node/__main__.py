"""Run the node: `python -m adapters.embedded.node --data-dir DIR --port N`."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from adapters.embedded.node.collections import Collections, health_check
from adapters.embedded.node.points import Points
from adapters.embedded.node.rpc import service
from adapters.embedded.node.store import DataDirInUseError, Store
from adapters.python_gc import collect_less
from adapters.qdrant_grpc import qdrant

log = logging.getLogger("adapters.embedded.node")

THREADS = 8
"""The engine holds the interpreter during its calls, so threads only overlap the network."""

GRACE = 2.0
"""Seconds that calls in flight get to finish when the node is stopped."""


def serve(store: Store, address: str) -> Any:
    """Start answering.

    Raises:
        RuntimeError: the address cannot be bound.
    """
    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="call"),
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Otherwise a second node could bind the same port and share its calls.
            ("grpc.so_reuseport", 0),
        ],
    )
    server.add_generic_rpc_handlers(
        (
            service(_described("Points"), Points(store).handlers()),
            service(_described("Collections"), Collections(store).handlers()),
            service(_described("Qdrant"), {"HealthCheck": health_check}),
        )
    )
    server.add_insecure_port(address)
    server.start()
    return server


def _described(name: str) -> Any:
    """The descriptor of a service of Qdrant."""
    return qdrant.HealthCheckRequest.DESCRIPTOR.file.pool.FindServiceByName(f"qdrant.{name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then flush.

    Returns:
        The exit status: 1 if the data directory is in use or the address cannot be bound.
    """
    parser = argparse.ArgumentParser(prog="python -m adapters.embedded.node", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="where collections are kept")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="gRPC port")
    given = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    collect_less()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        store = Store(given.data_dir)
    except DataDirInUseError as exc:
        return _failed("data_dir_in_use", exc)
    try:
        server = serve(store, f"{given.host}:{given.port}")
    except RuntimeError as exc:
        return _failed("cannot_listen", exc)
    log.info("listening host=%s port=%d data_dir=%s", given.host, given.port, given.data_dir)
    stop.wait()
    server.stop(GRACE).wait()
    store.close()
    log.info("stopped")
    return 0


def _failed(event: str, exc: Exception) -> int:
    log.error("%s message=%r", event, str(exc))
    return 1


if __name__ == "__main__":
    sys.exit(main())
