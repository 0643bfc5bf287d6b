"""Why a broker cannot be connected to.

aiokafka only logs the cause of a failed connection and then raises that no broker could be
reached. So the connection is tried once more here, and what fails is named by its setting.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from adapters.kafka.closing import CLOSE_SECONDS
from adapters.kafka.settings import KafkaSettings
from domain.model.errors import Unavailable

TRY_SECONDS = 2.0
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH; _CERT_NOT_YET_VALID, _HAS_EXPIRED.
_OTHER_NAME = (62, 64)
_NOT_NOW = (9, 10)


@asynccontextmanager
async def connecting(settings: KafkaSettings) -> AsyncIterator[None]:
    """In the block a client connects to its first broker.

    Raises:
        Unavailable: it could not, with the cause for each broker of the settings.
    """
    try:
        yield
    except KafkaConnectionError as exc:
        hosts = collect_hosts(settings.bootstrap, randomize=False)
        raise await unusable(settings, [(host, port) for host, port, _ in hosts]) from exc


async def unusable(settings: KafkaSettings, addresses: Iterable[tuple[str, int]]) -> Unavailable:
    """An error that says what fails at each of these (host, port)."""
    causes = [
        f"{host}:{port}: {cause}"
        for host, port in addresses
        if (cause := await _cause(settings, host, port)) is not None
    ]
    return Unavailable(f"the Kafka broker cannot be used: {'; '.join(causes) or 'try again'}")


async def _cause(settings: KafkaSettings, host: str, port: int) -> str | None:
    """What fails at this broker; None if nothing does now."""
    connection = None
    try:
        async with asyncio.timeout(TRY_SECONDS):
            connection = await create_conn(
                host,
                port,
                request_timeout_ms=int(TRY_SECONDS * 1000),
                **settings.connection_arguments(),
            )
            await connection.send(MetadataRequest([]))
    except (KafkaError, OSError, TimeoutError) as exc:
        return _named(settings, exc)
    finally:
        if connection is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.close()
    return None


def _named(settings: KafkaSettings, exc: BaseException) -> str:
    """A failure as a sentence that names the settings to look at."""
    # A request fails by the closed connection; why it was closed is the cause of that.
    while isinstance(exc, KafkaConnectionError) and exc.__cause__ is not None:
        exc = exc.__cause__
    for kind, sentence in _SENTENCES:
        if isinstance(exc, kind):
            return sentence(settings, exc)
    return str(exc) or type(exc).__name__


def _certificate(_settings: KafkaSettings, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_NAME:
        return f"the broker's certificate is for another name: {error.verify_message}"
    if error.verify_code in _NOT_NOW:
        return f"the broker's certificate: {error.verify_message}"
    return (
        "the broker's certificate is not of an authority that is known here "
        f"({error.verify_message}); check kafka_ca_file"
    )


def _tls(settings: KafkaSettings, error: ssl.SSLError) -> str:
    said = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate" in said or "unknown ca" in said:
        return (
            f"the broker refuses our certificate, or that there is none ({said}); check "
            "kafka_cert_file and kafka_key_file"
        )
    return f"TLS failed ({said}); {_protocol(settings)}"


def _password(settings: KafkaSettings, _error: KafkaError) -> str:
    return (
        f"the broker refuses user {settings.username!r} or the password "
        f"({settings.sasl_mechanism}); check kafka_username, kafka_password and "
        "kafka_sasl_mechanism"
    )


def _mechanism(settings: KafkaSettings, error: KafkaError) -> str:
    return f"the broker does not take kafka_sasl_mechanism {settings.sasl_mechanism}: {error}"


def _no_sasl(settings: KafkaSettings, _error: KafkaError) -> str:
    return f"the broker takes no user and password at this port; {_protocol(settings)}"


def _silent(_settings: KafkaSettings, _error: TimeoutError) -> str:
    return f"no answer within {TRY_SECONDS:g} s"


def _refused(_settings: KafkaSettings, _error: ConnectionRefusedError) -> str:
    return "the connection was refused"


def _closed(settings: KafkaSettings, _error: BaseException) -> str:
    return f"the broker closed the connection; {_protocol(settings)}"


def _protocol(settings: KafkaSettings) -> str:
    return f"check kafka_security_protocol, which is {settings.security_protocol}"


# The first that fits, so subclasses stand before their base.
_SENTENCES: tuple[tuple[type[BaseException], Callable[[KafkaSettings, Any], str]], ...] = (
    (ssl.SSLCertVerificationError, _certificate),
    (ssl.SSLError, _tls),
    (SaslAuthenticationFailed, _password),
    (UnsupportedSaslMechanismError, _mechanism),
    (IllegalSaslStateError, _no_sasl),
    (TimeoutError, _silent),
    (ConnectionRefusedError, _refused),
    (KafkaConnectionError, _closed),
    (ConnectionError, _closed),
    (EOFError, _closed),
)
