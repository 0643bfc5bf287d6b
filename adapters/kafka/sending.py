"""Let a producer of aiokafka send to the broker that it knows, and to no other.

The embedded broker loses everything when it ends, and takes messages of topics that it does not
have. The client would send a batch again, and over a new connection, when a broker is back. What
prevents that is not public, so it is all in here.
"""

from typing import Any

from aiokafka.client import ConnectionGroup


def send_once(producer: Any) -> None:
    """Let a batch fail with its first request."""
    producer._message_accumulator._batch_ttl = 0.0  # noqa: SLF001


async def keep_connections(producer: Any) -> None:
    """Connect to the brokers of the cluster, and never again once a connection is lost."""
    client = producer.client
    for broker in client.cluster.brokers():
        await client.ready(broker.nodeId)

    async def kept(
        node: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT, **_options: Any
    ) -> Any:
        connection = client._conns.get((node, group))  # noqa: SLF001
        return connection if connection is not None and connection.connected() else None

    client._get_conn = kept  # noqa: SLF001
