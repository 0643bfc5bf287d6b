"""Where the embedded servers of a data folder answer, for programs other than their supervisor."""

from collections.abc import Collection
from pathlib import Path

from adapters.embedded import broker, postgres, qdrant_node
from adapters.embedded.data_dir import recorded_ports
from adapters.embedded.stack import Endpoints
from domain.model.errors import Unavailable

ROLES = {"database": postgres.NAME, "kafka": broker.NAME, "qdrant": qdrant_node.NAME}
"""What a server is for, and the name of the embedded one."""


def running_endpoints(data_dir: Path, roles: Collection[str]) -> Endpoints:
    """The endpoints that the last `up` in this folder had.

    Raises:
        Unavailable: no server of a role ever ran here.
    """
    ports = recorded_ports(data_dir)
    missing = sorted(role for role in roles if ROLES[role] not in ports)
    if missing:
        raise Unavailable(
            f"no embedded {' or '.join(missing)} has run in {data_dir}; start it with "
            "`migration-ledger up`, name another --data-dir, or configure your own servers"
        )
    return Endpoints(
        database_url=postgres.url(data_dir, ports[postgres.NAME]) if "database" in roles else None,
        kafka_bootstrap=f"127.0.0.1:{ports[broker.NAME]}" if "kafka" in roles else None,
        qdrant_url=f"http://127.0.0.1:{ports[qdrant_node.NAME]}" if "qdrant" in roles else None,
    )
