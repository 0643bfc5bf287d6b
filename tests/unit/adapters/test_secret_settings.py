from pathlib import Path

import pytest

from adapters.settings import PREFIX, SECRETS, Settings, load_settings
from domain.model.errors import Rejected

CONFIGURED = {
    f"{PREFIX}DATABASE_URL": "postgresql://ledger@db:5432/ledger?sslmode=verify-full",
    f"{PREFIX}KAFKA_BOOTSTRAP": "kafka:9092",
    f"{PREFIX}QDRANT_URL": "http://qdrant:6334",
}


def load(folder: Path, **given: str) -> Settings:
    environment = CONFIGURED | {PREFIX + name: value for name, value in given.items()}
    return load_settings({}, environment, folder)


def secret(folder: Path, content: str) -> str:
    path = folder / "secret"
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_a_password_that_is_apart_becomes_a_part_of_the_url(tmp_path: Path) -> None:
    settings = load(tmp_path, DATABASE_PASSWORD_FILE=secret(tmp_path, "p@ss/w:rd#?\n"))

    assert (
        settings.database_url
        == "postgresql://ledger:p%40ss%2Fw%3Ard%23%3F@db:5432/ledger?sslmode=verify-full"
    )
    assert "p%40ss" not in repr(settings)


@pytest.mark.parametrize("name", [name for name in SECRETS if not name.startswith("database")])
def test_a_secret_may_be_in_a_file(tmp_path: Path, name: str) -> None:
    settings = load(tmp_path, **{f"{name.upper()}_FILE": secret(tmp_path, " kept as it is \r\n")})

    assert getattr(settings, name) == " kept as it is "


def test_a_whole_url_may_be_in_a_file(tmp_path: Path) -> None:
    environment = CONFIGURED | {
        f"{PREFIX}DATABASE_URL_FILE": secret(tmp_path, "postgresql://u:p@h/d\n")
    }
    del environment[f"{PREFIX}DATABASE_URL"]

    assert load_settings({}, environment, tmp_path).database_url == "postgresql://u:p@h/d"


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="both set"):
        load(tmp_path, KAFKA_PASSWORD="a", KAFKA_PASSWORD_FILE=secret(tmp_path, "b"))  # noqa: S106
    with pytest.raises(Rejected, match="without a password"):
        load(tmp_path, DATABASE_URL="postgresql://u:p@h/d", DATABASE_PASSWORD="q")  # noqa: S106


@pytest.mark.parametrize("url", ["postgresql://db/ledger", ""])
def test_a_password_without_a_user_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(Rejected, match="with a user"):
        load(tmp_path, DATABASE_URL=url, DATABASE_PASSWORD="q")  # noqa: S106


def test_a_file_that_is_missing_or_empty_is_refused_without_its_content(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="KAFKA_PASSWORD_FILE names cannot be read"):
        load(tmp_path, KAFKA_PASSWORD_FILE=str(tmp_path / "none"))
    with pytest.raises(Rejected, match="is empty"):
        load(tmp_path, KAFKA_PASSWORD_FILE=secret(tmp_path, "\n"))


@pytest.mark.parametrize("name", ["ACTOR_FILE", "QDRANT_URL_FILE", "_FILE"])
def test_only_secrets_may_be_in_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(Rejected, match="unknown setting"):
        load(tmp_path, **{name: "x"})
