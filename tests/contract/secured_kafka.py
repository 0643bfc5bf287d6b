"""An Apache Kafka that wants to know who asks, and lets nobody do more than they may."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.kafka.settings import KafkaSettings
from tests.infra.kafka.admin import Operation, Resource, allow
from tests.infra.kafka.certificates import Authority, Signed
from tests.infra.kafka.server import Kafka, Listener

USER, PASSWORD = "ledger", "a password"
UNABLE = "unable"
"""A user that may do nothing."""
NO_CREATOR = "no-creator"
"""A user that may do everything but create topics."""
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")

# The permissions of docs/how-to/use-your-own-servers.md.
_USES = (
    (Resource.TOPIC, "ledger.events", Operation.READ),
    (Resource.TOPIC, "ledger.events", Operation.WRITE),
    (Resource.TOPIC, "ledger.changes", Operation.READ),
    (Resource.TOPIC, "ledger.changes", Operation.WRITE),
    (Resource.GROUP, "applier.", Operation.READ),
)
_CREATES = (
    (Resource.TOPIC, "ledger.events", Operation.CREATE),
    (Resource.TOPIC, "ledger.changes", Operation.CREATE),
)


@dataclass(frozen=True)
class Secured:
    """A broker with a listener for each way to secure one.

    Attributes:
        kafka: the broker.
        admin: how an administrator reaches it.
        authority: PEM file of the authority of its certificate.
        client: a certificate of the same authority, for a client.
    """

    kafka: Kafka
    admin: KafkaSettings
    authority: Path
    client: Signed

    def sasl(self, mechanism: str = "SCRAM-SHA-512", user: str = USER) -> KafkaSettings:
        """Settings with a user and a password over TLS."""
        return KafkaSettings(
            self.kafka.bootstrap_of("SASL"),
            security_protocol="SASL_SSL",
            sasl_mechanism=mechanism,
            username=user,
            password=PASSWORD,
            ca_file=str(self.authority),
        )

    def without_tls(self) -> KafkaSettings:
        """Settings with a user and a password in the clear."""
        return replace(
            self.sasl(),
            bootstrap=self.kafka.bootstrap_of("CLEAR"),
            security_protocol="SASL_PLAINTEXT",
            ca_file=None,
        )

    def mutual(self) -> KafkaSettings:
        """Settings with a certificate of a client."""
        return KafkaSettings(
            self.kafka.bootstrap_of("MUTUAL"),
            security_protocol="SSL",
            ca_file=str(self.authority),
            cert_file=str(self.client.certificate),
            key_file=str(self.client.key),
        )


@asynccontextmanager
async def running_secured(folder: Path) -> AsyncIterator[Secured]:
    """A secured broker in a folder."""
    authority = Authority(folder, "authority")
    server = authority.sign("kafka", hosts=("localhost",), addresses=("127.0.0.1",))
    other = authority.sign("other", hosts=("kafka.example.com",))
    tls = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
    }
    users = (USER, UNABLE, NO_CREATOR)
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    plain = " ".join(
        (
            "org.apache.kafka.common.security.plain.PlainLoginModule required",
            *(f'user_{user}="{PASSWORD}"' for user in users),
        )
    )
    sasl = {
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "scram-sha-256.sasl.jaas.config": scram,
        "scram-sha-512.sasl.jaas.config": scram,
        "plain.sasl.jaas.config": f"{plain};",
    }
    kafka = Kafka(
        folder,
        listeners=(
            Listener("TLS", "SSL", tls),
            Listener("MISNAMED", "SSL", {**tls, "ssl.keystore.location": str(other.both)}),
            Listener("MUTUAL", "SSL", {**tls, "ssl.client.auth": "required"}),
            Listener("SASL", "SASL_SSL", {**tls, **sasl}),
            Listener("CLEAR", "SASL_PLAINTEXT", sasl),
        ),
        properties={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # Who needs not say a name, and who says it by a certificate.
            "super.users": "User:ANONYMOUS;User:CN=client",
        },
        users=[
            f"SCRAM-SHA-{bits}=[name={user},password={PASSWORD}]"
            for user in users
            for bits in (256, 512)
        ],
    )
    async with kafka:
        for resource, name, operation in _USES:
            for user in (USER, NO_CREATOR):
                await allow(kafka.settings, user, resource, name, operation)
        for resource, name, operation in _CREATES:
            await allow(kafka.settings, USER, resource, name, operation)
        yield Secured(kafka, kafka.settings, authority.certificate, authority.sign("client"))
