"""TLS, users and permissions, against an Apache Kafka that has them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from adapters.kafka.broker import Broker
from adapters.kafka.consumer import ChangeConsumer
from adapters.kafka.publisher import Publisher
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import EVENTS, TOPICS
from domain.model.errors import Unavailable
from tests.contract.kafka_events import LEDGER, PATIENT, event_id, history, ids, messages
from tests.contract.secured_kafka import (
    MECHANISMS,
    NO_CREATOR,
    UNABLE,
    Secured,
    running_secured,
)
from tests.infra.kafka.admin import delete_topics
from tests.infra.kafka.certificates import KEY_PASSWORD, Authority
from tests.infra.kafka.server import Kafka

pytestmark = [
    pytest.mark.broker,
    pytest.mark.kafka,
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    async with running_secured(tmp_path_factory.mktemp("secured")) as secured:
        yield secured


@pytest_asyncio.fixture(loop_scope="module")
async def secured(broker: Secured) -> Secured:
    await delete_topics(broker.admin)
    return broker


async def goes_through(settings: KafkaSettings) -> None:
    """Topics are created, events published, and changes consumed and committed."""
    events = history(10, [uuid4()])
    async with (
        Publisher(settings, deadline=PATIENT) as publisher,
        ChangeConsumer(settings, ledger=LEDGER) as consumer,
    ):
        await publisher.ensure_topics()
        await publisher.publish(events)
        taken = []
        while len(taken) < len(events):
            changes = await consumer.fetch()
            taken.extend(changes)
            for change in changes:
                consumer.complete(change)
    assert [change.position for change in taken] == [event.position for event in events]
    assert ids(await messages(settings, EVENTS)) == [event_id(event) for event in events]
    async with ChangeConsumer(settings, ledger=LEDGER) as consumer:
        while not consumer.assigned():
            assert await consumer.fetch() == []
        assert await consumer.fetch() == []


async def refusal(settings: KafkaSettings) -> str:
    """What is said when the broker cannot be used."""
    broker = Broker(settings)
    with pytest.raises(Unavailable) as caught:
        await broker.end_offsets(TOPICS)
    await broker.close()
    return str(caught.value)


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_user_with_the_documented_permissions_over_tls(
    secured: Secured, mechanism: str
) -> None:
    await goes_through(secured.sasl(mechanism))


async def test_a_user_without_tls(secured: Secured) -> None:
    await goes_through(secured.without_tls())


async def test_a_certificate_of_a_client(secured: Secured) -> None:
    await goes_through(secured.mutual())


async def test_a_certificate_whose_key_is_encrypted(secured: Secured) -> None:
    key = str(secured.client.encrypted_key)
    await goes_through(replace(secured.mutual(), key_file=key, key_password=KEY_PASSWORD))


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password_names_the_settings(secured: Secured, mechanism: str) -> None:
    said = await refusal(replace(secured.sasl(mechanism), password="wrong"))  # noqa: S106
    assert "refuses user 'ledger' or the password" in said
    assert "kafka_username, kafka_password and kafka_sasl_mechanism" in said
    assert "wrong" not in said


async def test_an_unknown_user_is_refused_as_a_wrong_password_is(secured: Secured) -> None:
    said = await refusal(replace(secured.sasl(), username="nobody"))
    assert "refuses user 'nobody' or the password" in said


async def test_an_unknown_authority_names_the_setting(secured: Secured, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    for settings in (
        replace(secured.sasl(), ca_file=None),
        replace(secured.sasl(), ca_file=str(other.certificate)),
    ):
        said = await refusal(settings)
        assert "not of an authority that is known here" in said
        assert "kafka_ca_file" in said


async def test_a_certificate_for_another_name_is_refused(secured: Secured) -> None:
    said = await refusal(
        replace(secured.mutual(), bootstrap=secured.kafka.bootstrap_of("MISNAMED"))
    )
    assert "the broker's certificate is for another name" in said


async def test_a_client_without_a_certificate_names_the_settings(
    secured: Secured, tmp_path: Path
) -> None:
    said = await refusal(replace(secured.mutual(), cert_file=None, key_file=None))
    assert "kafka_cert_file and kafka_key_file" in said
    stranger = Authority(tmp_path, "other").sign("stranger")
    said = await refusal(
        replace(secured.mutual(), cert_file=str(stranger.certificate), key_file=str(stranger.key))
    )
    assert "kafka_cert_file and kafka_key_file" in said


async def test_the_wrong_protocol_is_said_and_not_waited_for(secured: Secured) -> None:
    plain = secured.admin
    for settings in (
        replace(plain, bootstrap=secured.kafka.bootstrap_of("TLS")),
        replace(plain, bootstrap=secured.kafka.bootstrap_of("SASL")),
        replace(plain, bootstrap=secured.kafka.bootstrap_of("CLEAR")),
        replace(secured.sasl(), bootstrap=plain.bootstrap),
        replace(secured.without_tls(), bootstrap=plain.bootstrap),
        replace(secured.mutual(), bootstrap=secured.kafka.bootstrap_of("SASL")),
    ):
        said = await refusal(settings)
        assert f"kafka_security_protocol, which is {settings.security_protocol}" in said


async def test_a_user_without_permissions_is_told_where_they_are(secured: Secured) -> None:
    settings = secured.sasl(user=UNABLE)
    said = await refusal(settings)
    assert "did not tell the ends of topics, because our user may not" in said
    assert "docs/how-to/use-your-own-servers.md" in said


async def test_who_may_not_create_topics_goes_on_when_they_are_there(secured: Secured) -> None:
    settings = secured.sasl(user=NO_CREATOR)
    async with Publisher(settings, deadline=PATIENT) as publisher:
        with pytest.raises(
            Unavailable, match=r"create topics, because our user may not .*ledger\."
        ):
            await publisher.ensure_topics()
        administrator = Broker(secured.admin, deadline=PATIENT)
        await administrator.ensure(TOPICS)
        await administrator.close()
        await publisher.ensure_topics()
    await goes_through(settings)


async def test_an_address_that_a_broker_only_claims_to_have_is_named(tmp_path: Path) -> None:
    elsewhere = {"advertised.listeners": "PLAINTEXT://127.0.0.1:1"}
    async with Kafka(tmp_path, properties=elsewhere) as kafka:
        said = await refusal(kafka.settings)
    assert "127.0.0.1:1: the connection was refused" in said
