"""A proxy that can deliver a request after its sender was told that the connection is gone."""

import asyncio
from typing import Any

from tests.tcp_proxy import TcpProxy

CAUGHT_SECONDS = 0.3
"""How long requests are caught before their senders are cut off."""

LINGER_SECONDS = 1.0
"""How long the way to the server stays open after a late request, so that it is carried out."""


class LateProxy(TcpProxy):
    """As a network that loses the way back before the way there."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._caught: set[asyncio.Event] = set()

    async def deliver_late(self, seconds: float) -> None:
        """Catch requests, cut their senders off, and deliver what was caught so much later.

        Connections that are opened meanwhile are let through.
        """
        self.hold(requests=True)
        await asyncio.sleep(CAUGHT_SECONDS)
        caught, self._requests = self._requests, asyncio.Event()
        self._requests.set()
        self._caught.add(caught)
        for link in list(self.links):
            client: Any = link._ends[0]
            client.transport.abort()
        try:
            await asyncio.sleep(seconds)
        finally:
            caught.set()

    async def _before_end(self, open_: asyncio.Event) -> None:
        if open_ in self._caught:
            await asyncio.sleep(LINGER_SECONDS)
