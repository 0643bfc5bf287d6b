"""Run the API: `migration-ledger-api`, or `python -m adapters.http`."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from ipaddress import ip_address

import uvicorn

from adapters.http.app import create_app, openapi_document
from adapters.python_gc import collect_less
from adapters.settings import Settings, load_settings
from domain.model.errors import LedgerError

DRAIN_SECONDS = 6
"""How long open requests may take after SIGTERM; cancelling and closing take a moment more."""

MISUSED = 2
DEFAULT_PORT = 8080

logger = logging.getLogger("migration_ledger.http")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the API until SIGTERM or SIGINT; returns the exit status."""
    parser = argparse.ArgumentParser(prog="migration-ledger-api", description=__doc__)
    parser.add_argument("--host", help="address to listen on; 127.0.0.1 by default")
    parser.add_argument("--port", help="port to listen on; 8080 by default")
    parser.add_argument("--data-dir", help="folder of the embedded servers")
    parser.add_argument(
        "--print-openapi", action="store_true", help="write the OpenAPI document and end"
    )
    given = parser.parse_args(arguments)
    collect_less()
    flags = {"http_host": given.host, "http_port": given.port, "data_dir": given.data_dir}
    try:
        settings = load_settings(flags)
    except LedgerError as error:
        sys.stderr.write(f"error: {error}\n")
        return MISUSED
    if given.print_openapi:
        sys.stdout.buffer.write(openapi_document(settings))
        return 0
    _serve(settings)
    return 0


def _serve(settings: Settings) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if not _loopback(settings.http_host):
        logger.warning("listens_without_roles", extra={"host": settings.http_host})
    config = uvicorn.Config(
        create_app(settings),
        host=settings.http_host,
        port=DEFAULT_PORT if settings.http_port is None else settings.http_port,
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    # Once it is shut down, uvicorn raises the signal again; a stop that was asked for is no error.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    asyncio.run(uvicorn.Server(config).serve())


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
