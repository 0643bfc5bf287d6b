"""What goes over Kafka, without a broker."""

from uuid import UUID, uuid4

import orjson
import pytest

from adapters.kafka.cloud_events import (
    Change,
    Delivery,
    Message,
    decode,
    encode,
    source_of,
    witness_of,
)
from adapters.kafka.progress import Progress
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import partition_of
from domain.model.aggregate import Context
from domain.model.errors import Rejected
from domain.model.recorded import Recorded
from domain.model.timeline import Witness
from tests.contract.kafka_events import CONTEXT, alias_pointed

STREAM = UUID("00000000-0000-5000-8000-00000000002a")


def test_an_event_is_a_cloud_event_in_binary_mode() -> None:
    recorded = alias_pointed(7, STREAM, 3)
    message = encode(recorded, "urn:migration-ledger:test")
    assert message.key == b"00000000-0000-5000-8000-00000000002a"
    assert message.value == b'{"alias":"docs","previous":null}'
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"7/00000000-0000-5000-8000-00000000002a/3",
        "ce_source": b"urn:migration-ledger:test",
        "ce_type": b"migration-ledger.generation.alias-pointed",
        "ce_time": b"2026-11-21T03:04:05.678901+00:00",
        "ce_subject": b"00000000-0000-5000-8000-00000000002a",
        "ce_position": b"7",
        "ce_streamversion": b"3",
        "ce_hash": recorded.hash.hex().encode(),
        "ce_timeline": b"1",
        "ce_actor": b"mara",
        "ce_actorestablished": b"os-user",
        "ce_reason": b"because",
        "ce_correlationid": b"migration-1",
        "ce_causationid": b"step-2",
        "content-type": b"application/json",
    }


def test_empty_attributes_are_left_out() -> None:
    recorded = alias_pointed(7, STREAM, 3)
    bare = Recorded(**{**vars(recorded), "context": Context(CONTEXT.actor)})
    names = {name for name, _ in encode(bare, "urn:x").headers}
    assert not names & {"ce_reason", "ce_correlationid", "ce_causationid"}


def test_a_change_comes_back_from_its_message() -> None:
    delivery = Delivery(3, 14, 1)
    change = decode(encode(alias_pointed(7, STREAM, 3), "urn:x"), delivery)
    assert change == Change(
        7, STREAM, 3, "generation.alias-pointed", {"alias": "docs", "previous": None}
    )
    assert change.delivery == delivery


def test_a_message_says_how_far_its_ledger_had_come() -> None:
    recorded = alias_pointed(7, STREAM, 3)
    message = encode(recorded, source_of("6f1c"), 4)
    expected = Witness("topic t[0]", 7, recorded.hash.hex(), 4, "6f1c")
    assert witness_of("topic t[0]", message.headers) == expected
    assert witness_of("topic t[0]", encode(recorded, "urn:other").headers) is None
    assert witness_of("topic t[0]", [("content-type", b"text/plain")]) is None


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce_type", b"com.example.other"),
        ("ce_position", b"seven"),
        ("ce_subject", b"docs"),
        ("ce_streamversion", None),
    ],
)
def test_foreign_messages_are_refused(header: str, value: bytes | None) -> None:
    key, body, headers = encode(alias_pointed(7, STREAM, 3), "urn:x")
    changed = {**dict(headers), header: value}
    kept = [(name, content) for name, content in changed.items() if content is not None]
    with pytest.raises(Rejected):
        decode(Message(key, body, kept))


def test_a_message_without_json_is_refused() -> None:
    key, _, headers = encode(alias_pointed(7, STREAM, 3), "urn:x")
    with pytest.raises(Rejected):
        decode(Message(key, b"{", headers))


@pytest.mark.parametrize(
    ("key", "murmur2"),
    # From `UtilsTest.testMurmur2` of Apache Kafka, as signed 32-bit integers.
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_go_where_the_default_partitioner_of_kafka_puts_them(key: bytes, murmur2: int) -> None:
    for partitions in (12, 7):
        assert partition_of(key, partitions) == (murmur2 & 0x7FFFFFFF) % partitions


def test_only_what_has_nothing_open_in_front_of_it_can_be_committed() -> None:
    progress = Progress(1)
    assert progress.committable is None
    for offset in (10, 11, 15):
        progress.deliver(offset)
    progress.complete(11)
    assert (progress.committable, len(progress)) == (10, 2)
    progress.complete(10)
    assert progress.committable == 15
    progress.committed(15)
    assert progress.committable is None
    progress.complete(15)
    progress.complete(15)
    assert (progress.committable, len(progress)) == (16, 0)


def test_a_password_is_not_shown() -> None:
    password = uuid4().hex
    settings = KafkaSettings(
        "kafka:9093", security_protocol="SASL_SSL", username="ledger", password=password
    )
    assert password not in repr(settings)
    arguments = settings.client_arguments()
    assert arguments["sasl_plain_password"] == password
    assert arguments["ssl_context"].check_hostname


@pytest.mark.parametrize(
    "wrong",
    [
        {"security_protocol": "TLS"},
        {"security_protocol": "SASL_SSL"},
        {"security_protocol": "SASL_SSL", "username": "a", "password": "b", "sasl_mechanism": "X"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(Rejected):
        KafkaSettings("kafka:9092", **wrong)


def test_the_same_event_gives_the_same_bytes() -> None:
    once, again = (encode(alias_pointed(7, STREAM, 3), "urn:x") for _ in range(2))
    assert once == again
    assert orjson.loads(once.value) == {"alias": "docs", "previous": None}
