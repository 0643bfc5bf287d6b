"""Starts the embedded Qdrant node: our gRPC server over Qdrant Edge, in a process of its own."""

import importlib.metadata
import sys

from adapters.embedded.failures import EmbeddedMissing
from adapters.embedded.probes import answers_http2
from adapters.embedded.process import ProcessSpec
from adapters.embedded.supervisor import Supervisor

NAME = "qdrant"
_WHEEL = "qdrant-edge-py"


async def version() -> str:
    """The engine's version.

    Raises:
        EmbeddedMissing: the wheel is not installed.
    """
    try:
        return importlib.metadata.version(_WHEEL)
    except importlib.metadata.PackageNotFoundError as exc:
        raise EmbeddedMissing(_WHEEL) from exc


async def start(supervisor: Supervisor, port: int, name: str = NAME) -> str:
    """Starts a node on a loopback port.

    Args:
        supervisor: keeps it running.
        port: that it listens on.
        name: of the process and of its folder; another node beside the first needs its own.

    Returns:
        Its URL; the port speaks gRPC.

    Raises:
        EmbeddedMissing: the wheel is not installed.
        Unavailable: it did not start.
    """
    await version()

    async def ready() -> bool:
        return await answers_http2(port)

    folder = supervisor.data_dir / name
    folder.mkdir(mode=0o700, exist_ok=True)
    await supervisor.start(
        ProcessSpec(
            name=name,
            argv=(
                *(sys.executable, "-m", "adapters.embedded.node", "--data-dir", str(folder)),
                *("--host", "127.0.0.1", "--port", str(port)),
            ),
            log_path=supervisor.log_path(name),
            ready=ready,
            stop_timeout=8.0,
        )
    )
    return f"http://127.0.0.1:{port}"
