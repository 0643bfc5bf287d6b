"""How a broker is reached, and how that is said to aiokafka."""

import os
import ssl
from dataclasses import dataclass, field
from typing import Any

from domain.model.errors import Rejected

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class KafkaSettings:
    """A broker, and how we speak to it.

    Attributes:
        bootstrap: ``host:port``, several with commas.
        security_protocol: ``PLAINTEXT``, ``SSL``, ``SASL_PLAINTEXT`` or ``SASL_SSL``.
        sasl_mechanism: ``PLAIN``, ``SCRAM-SHA-256`` or ``SCRAM-SHA-512``; only read with SASL.
        username: for SASL.
        password: for SASL.
        ca_file: certificates that sign the broker's; None for the system's.
        cert_file: our certificate and those between it and its authority, for brokers that ask for
            one; PEM.
        key_file: its private key, PEM; None if it is in `cert_file`.
        key_password: of the private key, if it is encrypted.
        idempotent: let the broker drop what a retry sends twice.
        fetch_max_wait_ms: how long the broker holds a fetch that finds nothing.
        replication_factor: of topics that we create; -1 for the broker's default.
        groups_settle: whether consumer groups come to rest by themselves after any fault.

    Raises:
        Rejected: the protocol or mechanism is unknown, SASL has no username or password, or a file
            is missing or is not what it must be.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    idempotent: bool = True
    fetch_max_wait_ms: int = 500
    replication_factor: int = -1
    groups_settle: bool = True

    def __post_init__(self) -> None:
        if self.security_protocol not in _PROTOCOLS:
            raise Rejected(
                f"Kafka security protocol {self.security_protocol!r} is not one of "
                f"{', '.join(_PROTOCOLS)}"
            )
        if self.tls:
            self._ssl_context()
        if not self.sasl:
            return
        if self.sasl_mechanism not in _MECHANISMS:
            raise Rejected(
                f"Kafka SASL mechanism {self.sasl_mechanism!r} is not one of "
                f"{', '.join(_MECHANISMS)}"
            )
        if self.username is None or self.password is None:
            raise Rejected(f"{self.security_protocol} needs kafka_username and kafka_password")

    @classmethod
    def embedded(cls, bootstrap: str) -> "KafkaSettings":
        """The settings for the embedded broker.

        It answers no idempotent producer, and does not wake a fetch that waits when something is
        produced: at 500 ms the latency would be 127 ms, at 5 ms it is 2 ms. Where all members of a
        group go at the same moment, it can wait for a leader that is gone, for ever.
        """
        return cls(
            bootstrap,
            idempotent=False,
            fetch_max_wait_ms=5,
            replication_factor=1,
            groups_settle=False,
        )

    @property
    def sasl(self) -> bool:
        """Whether we say who we are with a name and a password."""
        return self.security_protocol.startswith("SASL")

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    def client_arguments(self) -> dict[str, Any]:
        """The arguments that all clients of aiokafka share.

        Raises:
            Rejected: a file is missing or is not what it must be.
        """
        return {"bootstrap_servers": self.bootstrap, **self.connection_arguments()}

    def connection_arguments(self) -> dict[str, Any]:
        """Those of them that say how to connect to any broker."""
        arguments: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.tls:
            # Made anew for each client, so that a certificate that was renewed is read.
            arguments["ssl_context"] = self._ssl_context()
        if self.sasl:
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.username
            arguments["sasl_plain_password"] = self.password
        return arguments

    def _ssl_context(self) -> ssl.SSLContext:
        """A context that checks the broker's certificate and its name."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as exc:
            raise Rejected(f"kafka_ca_file {self.ca_file}: {_problem(exc)}") from exc
        if self.cert_file is None:
            if self.key_file is not None:
                raise Rejected("kafka_key_file needs kafka_cert_file, the certificate of the key")
            return context
        try:
            # Without a password of ours, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self.cert_file, self.key_file, self.key_password or "")
        except OSError as exc:
            files = " and ".join(
                f"{name} {path}"
                for name, path in (
                    ("kafka_cert_file", self.cert_file),
                    ("kafka_key_file", self.key_file),
                )
                if path is not None
            )
            raise Rejected(
                f"{files}: {_problem(exc)}; a certificate and its key in PEM files are needed, and "
                "kafka_key_password if the key is encrypted"
            ) from exc
        return context


def _problem(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or str(exc)).replace("_", " ").lower()
    return os.strerror(exc.errno) if exc.errno else str(exc)
