"""Settings: command-line flags over environment variables over `migration-ledger.toml`.

This is the only reader of the environment.
"""

import getpass
import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import platformdirs

from domain.model.aggregate import Actor
from domain.model.durations import duration
from domain.model.errors import Rejected
from domain.model.spec import nearest

PREFIX = "MIGRATION_LEDGER_"
FILE = "migration-ledger.toml"
SERVERS = ("database", "kafka", "qdrant")
"""What is embedded unless it is configured: all three together, or those that `embed` names."""
LAST_PORT = 65535

KNOWN = {
    "data_dir": "folder of the embedded servers, objects and logs",
    "database_url": "PostgreSQL that holds the ledger",
    "database_password": "password of that PostgreSQL, if it is not in database_url",
    "kafka_bootstrap": "Kafka bootstrap servers, host:port with commas between",
    "kafka_security_protocol": "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    "kafka_sasl_mechanism": "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    "kafka_username": "SASL user",
    "kafka_password": "SASL password",
    "kafka_ca_file": "PEM file of the broker's certificate authority, if the system has not got it",
    "kafka_cert_file": "PEM file of our certificate, for brokers that ask for one",
    "kafka_key_file": "PEM file of its private key, if it is not in kafka_cert_file",
    "kafka_key_password": "password of the private key, if it is encrypted",
    "qdrant_url": "vector store named default: its gRPC endpoint, http://host:6334",
    "qdrant_api_key": "API key of the vector store named default",
    "objects_url": "object storage: file:///…, s3://…, gs://…, az://…",
    "embed": "servers to embed although others are configured: database, kafka, qdrant",
    "actor": "who you are, as recorded with what you do",
    "http_host": "address that the HTTP API listens on",
    "http_port": "port of the HTTP API; `up` chooses a free one if it is not set",
    "verify_every": "how often workers verify each collection, such as 24h or 7d; never if not set",
    "pack_every": "how often workers pack collections that are scattered, such as 24h; never if "
    "not set",
    "retain_every": "how often workers archive what retention does not keep, and delete the bodies "
    "of that, such as 24h; never if not set",
}
"""Every setting and what it is; environment variables are `MIGRATION_LEDGER_` and the name."""


INTERVALS = frozenset({"verify_every", "pack_every", "retain_every"})
"""Settings that say how often something is done."""

SECRETS = (
    *("database_url", "database_password"),
    *("kafka_password", "kafka_key_password"),
    "qdrant_api_key",
)
"""Settings that may be in a file of their own, which the variable with `_FILE` behind it names."""
_IN_FILE = "_file"


@dataclass(frozen=True)
class StoreConnection:
    """A vector store.

    Attributes:
        url: gRPC endpoint.
        api_key: or None.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Settings:
    """Where everything is. A URL that is None belongs to an embedded server.

    Attributes:
        data_dir: folder of the embedded servers, objects and logs.
        connections: application databases by name: URL.
        stores: vector stores by name.
        embedders: embedding models by name: file of a fitted model.
        http_host: address that the HTTP API listens on.
        http_port: its port, or None where it is to be chosen.
        verify_every: how often workers verify each collection, or None for never.
        pack_every: how often workers pack collections that are scattered, or None for never.
        retain_every: how often workers archive and delete what is not kept, or None for never.
        source: the settings file that was read, or None.
    """

    data_dir: Path
    actor: Actor
    database_url: str | None = field(default=None, repr=False)
    kafka_bootstrap: str | None = None
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_username: str | None = None
    kafka_password: str | None = field(default=None, repr=False)
    kafka_ca_file: str | None = None
    kafka_cert_file: str | None = None
    kafka_key_file: str | None = None
    kafka_key_password: str | None = field(default=None, repr=False)
    qdrant_url: str | None = None
    qdrant_api_key: str | None = field(default=None, repr=False)
    objects_url: str | None = None
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)
    stores: Mapping[str, StoreConnection] = field(default_factory=dict)
    embedders: Mapping[str, str] = field(default_factory=dict)
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    verify_every: timedelta | None = None
    pack_every: timedelta | None = None
    retain_every: timedelta | None = None
    source: Path | None = None

    @property
    def embedded(self) -> frozenset[str]:
        """The servers that are embedded."""
        configured = {
            "database": self.database_url,
            "kafka": self.kafka_bootstrap,
            "qdrant": self.qdrant_url,
        }
        return frozenset(name for name, url in configured.items() if url is None)

    @property
    def storage_url(self) -> str:
        """Where objects are: as configured, or a folder of the data folder."""
        return self.objects_url or (self.data_dir / "objects").as_uri()


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment in which a child process has these settings.

    What the settings file names in sections is read there by the child itself.
    """
    values = {name: getattr(settings, name, None) for name in KNOWN}
    values |= {
        name: f"{every.total_seconds():.0f}s"
        for name in INTERVALS
        if (every := values[name]) is not None
    }
    if settings.database_url is not None:
        # Apart again, so that a password in the settings file does not come twice.
        parts = urlsplit(settings.database_url)
        user, at, host = parts.netloc.rpartition("@")
        name, colon, password = user.partition(":")
        values["database_url"] = parts._replace(netloc=f"{name}{at}{host}").geturl()
        values["database_password"] = unquote(password) if colon else None
    values["embed"] = ",".join(sorted(settings.embedded))
    # Only a name that was set: a child finds the user by itself, and knows it for one.
    values["actor"] = settings.actor.id if settings.actor.established == "setting" else None
    return {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)} | {
        PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None
    }


def load_settings(
    flags: Mapping[str, str | None] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Read settings from a file in the folder, the environment and flags, the last one winning.

    Raises:
        Rejected: an unknown key, or a server configured while another was forgotten.
    """
    environment = os.environ if environment is None else environment
    path = (folder or Path.cwd()) / FILE
    document = _read(path)
    values = {k: v for k, v in document.items() if k in KNOWN}
    values |= _from_environment(environment)
    values |= {name: value for name, value in (flags or {}).items() if value is not None}
    if password := values.pop("database_password", None):
        values["database_url"] = _with_password(values.get("database_url"), password)
    embed = _embedded_names(values.pop("embed", ""))
    _refuse_forgotten(values, embed)
    for name, key in (
        ("database", "database_url"),
        ("kafka", "kafka_bootstrap"),
        ("qdrant", "qdrant_url"),
    ):
        if name in embed:
            values.pop(key, None)
    if "http_port" in values:
        values["http_port"] = _port(values["http_port"])
    values |= {name: _duration(name, values[name]) for name in INTERVALS & values.keys()}
    data_dir = Path(values.pop("data_dir", None) or _default_data_dir()).expanduser().resolve()
    return Settings(
        data_dir=data_dir,
        actor=_actor(values.pop("actor", None)),
        connections=_section(document, "connections", {"url"}, path, lambda c: c["url"]),
        stores=_section(
            document,
            "stores",
            {"url", "api_key"},
            path,
            lambda c: StoreConnection(c["url"], c.get("api_key")),
        ),
        embedders=_section(document, "embedders", {"lsa"}, path, lambda c: c["lsa"]),
        source=path if document else None,
        **values,
    )


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that variables give, or the files that variables name."""
    values: dict[str, str] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        secret = name.removesuffix(_IN_FILE)
        if name in KNOWN:
            values[name] = value
        elif secret not in SECRETS or secret == name:
            known = [PREFIX + key.upper() for key in KNOWN]
            raise Rejected(f"unknown setting {variable!r}{nearest(variable, known)}")
        elif PREFIX + secret.upper() in environment:
            raise Rejected(f"{PREFIX}{secret.upper()} and {variable} are both set")
        else:
            values[secret] = _in_file(variable, value)
    return values


def _in_file(variable: str, path: str) -> str:
    """The content of a file with a secret, without the line's end that editors add."""
    try:
        content = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"the file that {variable} names cannot be read: {error}") from error
    if not content:
        raise Rejected(f"the file that {variable} names is empty: {path}")
    return content


def _with_password(url: str | None, password: str) -> str:
    """A database URL with a password that was given apart from it."""
    parts = urlsplit(url or "")
    user, at, host = parts.netloc.rpartition("@")
    if not at or ":" in user:
        raise Rejected("database_password needs a database_url with a user and without a password")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise Rejected(f"{path} cannot be read: {error}") from error
    known = [*KNOWN, "connections", "stores", "embedders"]
    for key in document:
        if key not in known:
            raise Rejected(f"{path} has the unknown key {key!r}{nearest(key, known)}")
    return document


def _section(
    document: dict[str, Any], section: str, keys: set[str], path: Path, make: Any
) -> dict[str, Any]:
    made = {}
    for name, connection in document.get(section, {}).items():
        unknown = set(connection) - keys
        if unknown or not set(connection) & keys - {"api_key"}:
            found = f"unknown key {min(unknown)!r}" if unknown else "a key is missing"
            raise Rejected(
                f"{path}: [{section}.{name}]: {found}; it takes {', '.join(sorted(keys))}"
            )
        made[name] = make(connection)
    return made


def _embedded_names(text: str | list[str]) -> set[str]:
    names = text if isinstance(text, list) else [part.strip() for part in text.split(",")]
    chosen = {name for name in names if name}
    for name in chosen - set(SERVERS):
        raise Rejected(f"embed names {name!r}{nearest(name, list(SERVERS))}")
    return chosen


def _refuse_forgotten(values: Mapping[str, Any], embed: set[str]) -> None:
    keys = {"database": "database_url", "kafka": "kafka_bootstrap", "qdrant": "qdrant_url"}
    given = {name for name, key in keys.items() if values.get(key)}
    missing = set(SERVERS) - given - embed
    if given and missing:
        raise Rejected(
            f"missing: {', '.join(keys[n] for n in sorted(missing))}; since "
            f"{', '.join(keys[n] for n in sorted(given))} is given, configure that too, or say "
            f"--embed {','.join(sorted(missing))} to use an embedded server there"
        )


def _duration(name: str, text: str) -> timedelta:
    try:
        found = duration(str(text))
    except Rejected as error:
        raise Rejected(f"{name} is {error}") from error
    if not found:
        raise Rejected(f"{name} is {text!r}, not a duration such as 90s, 15m, 24h or 7d")
    return found


def _port(text: str | int) -> int:
    if not str(text).isdecimal() or not 0 <= int(text) <= LAST_PORT:
        raise Rejected(f"http_port is {text!r}, not a port from 0 to {LAST_PORT}")
    return int(text)


def _default_data_dir() -> str:
    return platformdirs.user_data_dir("migration-ledger", appauthor=False)


def _actor(name: str | None) -> Actor:
    if name:
        return Actor(name, "setting")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return Actor(f"{user}@{socket.gethostname()}", "os-user")
