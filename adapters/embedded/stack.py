"""The embedded servers together."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from adapters.embedded import broker, postgres, qdrant_node
from adapters.embedded.data_dir import choose_ports
from adapters.embedded.supervisor import Supervisor
from domain.model.errors import Rejected

_STARTS: MappingProxyType[str, Callable[[Supervisor, int], Coroutine[Any, Any, str]]] = (
    MappingProxyType(
        {
            postgres.NAME: postgres.start,
            broker.NAME: broker.start,
            qdrant_node.NAME: qdrant_node.start,
        }
    )
)
_VERSIONS: MappingProxyType[str, Callable[[], Awaitable[str]]] = MappingProxyType(
    {
        postgres.NAME: postgres.version,
        broker.NAME: broker.version,
        qdrant_node.NAME: qdrant_node.version,
    }
)
SERVERS = frozenset(_STARTS)


@dataclass(frozen=True)
class Endpoints:
    """Where the embedded servers answer; None for those that were not started.

    Attributes:
        database_url: ``postgresql://…``, with the password: not for logs.
        kafka_bootstrap: ``host:port``.
        qdrant_url: ``http://host:port``; the port speaks gRPC only.
    """

    database_url: str | None = field(default=None, repr=False)
    kafka_bootstrap: str | None = None
    qdrant_url: str | None = None


async def versions(names: Collection[str]) -> dict[str, str]:
    """The version of each of the named servers.

    Raises:
        EmbeddedMissing: the wheel of one is not installed.
        Rejected: there is no server of that name.
    """
    _check(names)
    return {name: await _VERSIONS[name]() for name in sorted(names)}


async def start_servers(supervisor: Supervisor, names: Collection[str]) -> Endpoints:
    """Starts servers side by side, and waits until all of them answer.

    Args:
        supervisor: entered; it keeps them running, and stops them when it is left.
        names: of `SERVERS`.

    Raises:
        EmbeddedMissing: the wheel of one is not installed; none was started.
        Unavailable: one did not start. Those that did are the supervisor's to stop.
        Rejected: there is no server of that name.
    """
    await versions(names)
    ports = choose_ports(supervisor.data_dir, names)
    try:
        async with asyncio.TaskGroup() as group:
            starting = {
                name: group.create_task(_STARTS[name](supervisor, ports[name]))
                for name in sorted(names)
            }
    except ExceptionGroup as failures:
        # The first failure cancelled the others; a caller wants it by its own class.
        raise failures.exceptions[0] from failures
    urls = {name: task.result() for name, task in starting.items()}
    return Endpoints(
        database_url=urls.get(postgres.NAME),
        kafka_bootstrap=urls.get(broker.NAME),
        qdrant_url=urls.get(qdrant_node.NAME),
    )


def _check(names: Collection[str]) -> None:
    unknown = sorted(set(names) - SERVERS)
    if unknown:
        raise Rejected(f"no embedded server is called {unknown[0]!r}; there are {sorted(SERVERS)}")
