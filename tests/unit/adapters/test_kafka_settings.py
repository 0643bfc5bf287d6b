"""What is wrong with the settings of a broker is said before it is connected to."""

import ssl
from pathlib import Path

import pytest

from adapters.kafka.settings import KafkaSettings
from domain.model.errors import Rejected
from tests.infra.kafka.certificates import KEY_PASSWORD, Authority, Signed


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Authority(tmp_path, "authority").sign("client")


def tls(**files: str | Path | None) -> KafkaSettings:
    given = {name: None if value is None else str(value) for name, value in files.items()}
    return KafkaSettings("127.0.0.1:9093", "SSL", **given)  # type: ignore[arg-type]


def test_certificates_and_names_of_brokers_are_checked(tmp_path: Path, signed: Signed) -> None:
    context = tls(
        ca_file=tmp_path / "authority.pem", cert_file=signed.certificate, key_file=signed.key
    ).client_arguments()["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert [one["subject"] for one in context.get_ca_certs()] == [((("commonName", "authority"),),)]


def test_a_key_may_be_in_the_file_of_the_certificate_or_encrypted(signed: Signed) -> None:
    tls(cert_file=signed.both)
    tls(
        cert_file=signed.certificate,
        key_file=signed.encrypted_key,
        key_password=KEY_PASSWORD,
    )


def test_files_that_are_missing_or_wrong_name_their_settings(
    tmp_path: Path, signed: Signed
) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(Rejected, match=r"kafka_ca_file .*missing.pem: No such file"):
        tls(ca_file=missing)
    with pytest.raises(Rejected, match=r"kafka_ca_file .*empty.pem: no certificate or crl found"):
        tls(ca_file=empty)
    with pytest.raises(Rejected, match=r"kafka_cert_file .*missing.pem.*No such file"):
        tls(cert_file=missing)
    with pytest.raises(Rejected, match=r"kafka_key_file needs kafka_cert_file"):
        tls(key_file=signed.key)
    for password in (None, "wrong"):
        with pytest.raises(Rejected, match=r"kafka_key_password if the key is encrypted"):
            tls(
                cert_file=signed.certificate,
                key_file=signed.encrypted_key,
                key_password=password,
            )


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(Rejected, match="SASL_SSL needs kafka_username and kafka_password"):
        KafkaSettings("127.0.0.1:9093", "SASL_SSL", "SCRAM-SHA-512", "ledger")
    with pytest.raises(Rejected, match="'SASL_TLS' is not one of PLAINTEXT, SSL"):
        KafkaSettings("127.0.0.1:9093", "SASL_TLS")
    with pytest.raises(Rejected, match="'GSSAPI' is not one of PLAIN, SCRAM"):
        KafkaSettings("127.0.0.1:9093", "SASL_SSL", "GSSAPI", "ledger", "a password")
