"""Settings as they are read, and as a child process gets them."""

from datetime import timedelta
from pathlib import Path

import pytest

from adapters.settings import INTERVALS, environment_of, load_settings
from domain.model.errors import Rejected

CONFIGURED = {
    "MIGRATION_LEDGER_KAFKA_BOOTSTRAP": "kafka.example.com:9093",
    "MIGRATION_LEDGER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "MIGRATION_LEDGER_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "MIGRATION_LEDGER_KAFKA_USERNAME": "ledger",
    "MIGRATION_LEDGER_KAFKA_PASSWORD": "a password",
    "MIGRATION_LEDGER_KAFKA_CA_FILE": "ca.pem",
    "MIGRATION_LEDGER_KAFKA_CERT_FILE": "client.pem",
    "MIGRATION_LEDGER_KAFKA_KEY_FILE": "client.key",
    "MIGRATION_LEDGER_KAFKA_KEY_PASSWORD": "another",
    "MIGRATION_LEDGER_HTTP_PORT": "8081",
    "MIGRATION_LEDGER_VERIFY_EVERY": "15 m",
}


def test_a_child_gets_what_came_from_options_and_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "migration-ledger.toml").write_text(
        'actor = "platform team"\nqdrant_url = "https://qdrant.example.com:6334"\n'
        'database_url = "postgresql://ledger@db.example.com/ledger"\n'
        'database_password = "p@ss:word"\n'
    )
    flags = {"embed": "qdrant", "data_dir": str(tmp_path)}
    settings = load_settings(flags, CONFIGURED, tmp_path)

    child = load_settings({}, environment_of(settings), tmp_path)

    assert child == settings
    assert child.embedded == {"qdrant"}
    assert child.database_url == "postgresql://ledger:p%40ss%3Aword@db.example.com/ledger"
    assert child.verify_every == timedelta(minutes=15)
    assert child.kafka_password == "a password"  # noqa: S105  (of a test)


def test_a_child_of_what_is_all_embedded_embeds_it_all(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": str(tmp_path)}, {}, tmp_path)
    child = load_settings({}, environment_of(settings), tmp_path)
    assert child == settings
    assert child.actor.established == "os-user"


def test_secrets_are_in_no_representation(tmp_path: Path) -> None:
    settings = load_settings({"embed": "database,qdrant"}, CONFIGURED, tmp_path)
    assert "a password" not in repr(settings)
    assert "another" not in repr(settings)


@pytest.mark.parametrize("name", sorted(INTERVALS))
@pytest.mark.parametrize("text", ["90s", "365d", "36500d"])
def test_a_child_gets_every_duration(name: str, text: str, tmp_path: Path) -> None:
    given = {f"MIGRATION_LEDGER_{name.upper()}": text}
    settings = load_settings({"data_dir": str(tmp_path)}, given, tmp_path)
    child = load_settings({}, environment_of(settings), tmp_path)
    assert isinstance(getattr(settings, name), timedelta)
    assert child == settings


@pytest.mark.parametrize("text", ["", "0h", "24", "1 week", "-3h", "1.5h", "h"])
def test_what_is_no_duration_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"verify_every is .*, not a duration such as 90s"):
        load_settings({}, {"MIGRATION_LEDGER_VERIFY_EVERY": text}, tmp_path)
