"""A broker with TLS and users serves every process, and a wrong password is told as such."""

from pathlib import Path

import pytest

from tests.contract.secured_kafka import PASSWORD, USER, Secured, running_secured
from tests.e2e.application import build, write_spec
from tests.e2e.program import running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.timeout(240),
]

SECRET = "MIGRATION_LEDGER_KAFKA_PASSWORD"  # noqa: S105  (its name)
UNREACHABLE = 3


async def test_a_migration_through_a_secured_broker(tmp_path: Path) -> None:
    broker_folder, folder = tmp_path / "broker", tmp_path / "ours"
    broker_folder.mkdir()
    folder.mkdir()
    async with running_secured(broker_folder) as secured:
        _write_settings(folder, secured)
        async with running(folder, {SECRET: PASSWORD}) as up:
            application = await build("a", up.url("database"), up.url("qdrant"), points=300)
            spec = str(write_spec(application, folder))
            applied = await up.run("apply", spec, "--yes")
            await application.qdrant.close()
            assert applied.status == 0, applied.out + applied.err

            healthy = await up.run("doctor", "--json")
            assert healthy.status == 0, healthy.out
            assert healthy.document["kafka"]["reachable"]

            wrong = await up.run("doctor", "--json", settings={SECRET: "wrong"})
            assert wrong.status == UNREACHABLE
            assert "kafka_password" in wrong.document["kafka"]["error"]

            unread = {SECRET: PASSWORD, "MIGRATION_LEDGER_KAFKA_CA_FILE": "missing.pem"}
            wrong = await up.run("doctor", "--json", settings=unread)
            assert wrong.status == UNREACHABLE
            assert "kafka_ca_file missing.pem" in wrong.document["kafka"]["error"]
        logs = "".join(log.read_text() for log in (up.data_dir / "logs").glob("*.log"))
    assert "worker" in logs
    assert PASSWORD not in logs


def _write_settings(folder: Path, secured: Secured) -> None:
    settings = secured.sasl()
    (folder / "migration-ledger.toml").write_text(
        f"""
embed = "database,qdrant"
kafka_bootstrap = "{settings.bootstrap}"
kafka_security_protocol = "SASL_SSL"
kafka_sasl_mechanism = "SCRAM-SHA-512"
kafka_username = "{USER}"
kafka_ca_file = "{settings.ca_file}"
""",
        encoding="utf-8",
    )
