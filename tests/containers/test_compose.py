"""docker-compose.yml, as far as it can be checked without an engine."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.cli.main import app
from adapters.cli.roles import LAST_SECONDS, ROLES, chosen_roles
from adapters.http.__main__ import main as api
from adapters.http.app import create_app
from adapters.settings import PREFIX, Settings, load_settings
from tests.containers.compose import COMPOSE, SCRIPTS, VERSION, document, ours, services

AWKWARD = "a password/with @ and :"
PROGRAM = "migration-ledger"
API = "migration-ledger-api"
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|PRIVATE")
_PROPERTIES = Path(__file__).parent / "kafka-4.3-properties.txt"
_IMAGE_VARIABLES = {"KAFKA_HEAP_OPTS"}
"""Variables of the Kafka image that are not properties of the broker."""


def each(of: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", of.values(), ids=of)


def test_it_is_as_the_compose_specification_has_it() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@each(ours())
def test_its_settings_exist_and_configure_every_server(
    service: dict[str, Any], tmp_path: Path
) -> None:
    settings = settings_of(service, tmp_path)

    assert not settings.embedded
    assert settings.objects_url is not None
    assert settings.database_url is not None
    assert "a%20password%2Fwith%20%40%20and%20%3A@postgres:5432" in settings.database_url


def settings_of(service: dict[str, Any], folder: Path) -> Settings:
    """Settings as its container has them, with a secret where the file says that one is mounted."""
    secrets = folder / "secrets"
    secrets.mkdir()
    for name in service["secrets"]:
        (secrets / name).write_text(f"{AWKWARD}\n")
    given = {k: v for k, v in service["environment"].items() if k.startswith(PREFIX)}
    mounted = {k: v.replace("/run/secrets/", f"{secrets}/") for k, v in given.items()}
    return load_settings({}, mounted, folder)


def test_the_api_listens_where_its_port_leads(tmp_path: Path) -> None:
    settings = settings_of(services()["api"], tmp_path)

    [port] = services()["api"]["ports"]
    assert settings.http_host == "0.0.0.0"  # noqa: S104  # inside its container
    assert port.endswith(f":{settings.http_port}")


@each(ours())
def test_its_command_exists(service: dict[str, Any]) -> None:
    [entrypoint] = service.get("entrypoint", [PROGRAM])
    assert entrypoint in SCRIPTS

    check_command([entrypoint, *service.get("command", [])])


def check_command(words: Sequence[str]) -> None:
    """Parse a command without running it."""
    program, *arguments = words
    if program == API:
        with pytest.raises(SystemExit) as ended:
            api([*arguments, "--help"])
        assert ended.value.code == 0
        return
    assert program == PROGRAM
    done = CliRunner().invoke(app, [*arguments, "--help"])
    assert done.exit_code == 0, done.output
    if "--roles" in arguments:
        chosen_roles(arguments[arguments.index("--roles") + 1])


def test_there_is_a_service_for_each_role_that_checks_just_this_role() -> None:
    roles = {}
    for name, service in services().items():
        command = service.get("command", [])
        if command[:1] == ["worker"]:
            roles[name] = command
            assert service["healthcheck"]["test"] == [
                *("CMD", PROGRAM, "worker", "--check"),
                *command[1:],
            ]

    assert roles == {role: ["worker", "--roles", role] for role in ROLES}


@each(services())
def test_it_has_a_health_check_or_ends(service: dict[str, Any]) -> None:
    check = service["healthcheck"]
    if not check.get("disable"):
        assert check["test"][0] == "CMD"
        if check["test"][1] == PROGRAM:
            check_command(check["test"][1:])
        return
    waited_for = [
        depends.get("schema", {}).get("condition")
        for other in services().values()
        if (depends := other.get("depends_on"))
    ]
    ends = service is not None and service.get("command") == ["db", "upgrade"]
    assert (ends and "service_completed_successfully" in waited_for) or service.get("profiles")
    assert service["restart"] in {"no", "on-failure:5"}


@each(services())
def test_it_waits_for_services_that_can_be_waited_for(service: dict[str, Any]) -> None:
    for name, how in service.get("depends_on", {}).items():
        ends = bool(services()[name]["healthcheck"].get("disable"))
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")


@each(services())
def test_it_may_do_little(service: dict[str, Any]) -> None:
    assert "privileged" not in service
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"network_mode", "pid", "ipc", "devices"} & service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@each(ours())
def test_ours_has_no_file_system_to_write_to_but_its_volume(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108


@each(services())
def test_it_holds_no_secret(service: dict[str, Any]) -> None:
    for name, value in service.get("environment", {}).items():
        assert not _SECRET_NAME.search(name) or name.endswith("_FILE"), name
        assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), name


@each(services())
def test_it_has_time_to_end(service: dict[str, Any]) -> None:
    assert int(service["stop_grace_period"].removesuffix("s")) > LAST_SECONDS


@each(services())
def test_its_image_is_pinned_by_a_tag(service: dict[str, Any]) -> None:
    _, _, tag = service["image"].partition(":")
    assert tag
    assert tag != "latest"


@each(ours())
def test_our_image_has_the_version_of_the_program(service: dict[str, Any]) -> None:
    assert service["image"] == f"{PROGRAM}:{VERSION}"


@pytest.mark.parametrize("role", ROLES)
def test_workers_can_be_scaled(role: str) -> None:
    assert not {"container_name", "ports", "hostname"} & services()[role].keys()


@pytest.mark.parametrize("kind", ["volumes", "secrets"])
def test_what_is_mounted_is_declared_and_used(kind: str) -> None:
    used = {
        mounted.split(":")[0]
        for service in services().values()
        for mounted in service.get(kind, [])
    }
    assert used == set(document()[kind])


def test_postgres_keeps_its_data_in_the_volume() -> None:
    """Image 18 has it in /var/lib/postgresql/18/docker; older ones had it in `data`."""
    assert services()["postgres"]["image"].startswith("postgres:18")
    assert services()["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]


def test_the_ledger_connects_as_the_user_that_postgres_makes(tmp_path: Path) -> None:
    settings = settings_of(services()["api"], tmp_path)
    made = services()["postgres"]["environment"]

    assert settings.database_url is not None
    assert settings.database_url.startswith(f"postgresql://{made['POSTGRES_USER']}:")
    assert settings.database_url.endswith(f"/{made['POSTGRES_DB']}")


def test_kafka_knows_every_property() -> None:
    known = set(_PROPERTIES.read_text(encoding="utf-8").split())
    given = services()["kafka"]["environment"].keys() - _IMAGE_VARIABLES

    assert {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in given} <= known


def test_qdrant_is_reached_on_its_grpc_port() -> None:
    environment = services()["qdrant"]["environment"]
    port = environment["QDRANT__SERVICE__GRPC_PORT"]

    for service in ours().values():
        assert service["environment"]["MIGRATION_LEDGER_QDRANT_URL"] == f"http://qdrant:{port}"


@contextmanager
def answering(path: str, status: int) -> Iterator[int]:
    """A server on a loopback port that answers this path with this status, and others with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            self.send_response(status if self.path == path else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("service", "port", "path"), [("qdrant", 6333, "/readyz"), ("api", 8080, "/health")]
)
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_a_health_check_that_speaks_http_says_what_the_server_says(
    service: str, port: int, path: str, status: int, *, healthy: bool
) -> None:
    program, *arguments = services()[service]["healthcheck"]["test"][1:]
    program = sys.executable if program == "python" else program
    with answering(path, status) as listening:
        here = [argument.replace(str(port), str(listening)) for argument in arguments]
        done = subprocess.run([program, *here], capture_output=True, check=False)

    assert (done.returncode == 0) == healthy


def test_the_api_has_the_path_that_its_health_check_asks(tmp_path: Path) -> None:
    paths = create_app(settings_of(services()["api"], tmp_path)).openapi()["paths"]

    assert "/health" in paths
