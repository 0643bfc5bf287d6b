"""Where a Qdrant server is, and the channel to it."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from domain.model.errors import Rejected

GRPC_PORT = 6334

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Retries are ours: they are counted, and know which answers are final.
    ("grpc.enable_retries", 0),
    # A server that restarts is found again within the back-off of a call.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 60_000),
    # Also the TCP_USER_TIMEOUT of the socket: so long may bytes be unacknowledged on their way.
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
)


@dataclass(frozen=True)
class Endpoint:
    """The gRPC endpoint of a Qdrant server.

    Attributes:
        url: ``http://host:6334``, or ``https://…`` for TLS. The port is the gRPC port (6334 if
            left out), not the REST port.
        api_key: sent with every call, or None.
        root_certificates: PEM of the authorities to trust instead of the system's.

    Raises:
        Rejected: the URL has another form, or the key would travel in the clear.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    root_certificates: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.username is not None or parts.password is not None:
            raise Rejected("the URL of a Qdrant server has credentials in it; give the key apart")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Rejected(f"{self.url!r} is not a URL like http://host:{GRPC_PORT} (gRPC)")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise Rejected(f"{self.url!r}: a gRPC endpoint has no path, query or fragment")
        plaintext = parts.scheme == "http" and not _loopback(parts.hostname)
        if self.api_key is not None and plaintext:
            raise Rejected(f"the API key for {self.url} would travel unencrypted: use https")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with every call."""
        return () if self.api_key is None else (("api-key", self.api_key),)

    def channel(self) -> Any:
        """A new channel; needs a running event loop."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
        target = f"{host}:{parts.port or GRPC_PORT}"
        if parts.scheme == "http":
            return grpc.aio.insecure_channel(target, options=_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self.root_certificates)
        return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
