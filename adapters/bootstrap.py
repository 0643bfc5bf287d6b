"""The one place that constructs adapters and gives them to use cases."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from adapters.embedded.endpoints import running_endpoints
from adapters.kafka.consumer import ChangeConsumer
from adapters.kafka.publisher import Publisher
from adapters.kafka.settings import KafkaSettings
from adapters.objects.store import SizedObjects, StoredObjects
from adapters.postgres.applications import PostgresApplications
from adapters.postgres.connection import Database, open_database
from adapters.postgres.cursors import PostgresCursors
from adapters.postgres.flow_ranges import PostgresFlowRanges
from adapters.postgres.garbage import PostgresGarbage, SparingObjects
from adapters.postgres.leaders import PostgresLeaders
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from adapters.postgres.schema import require_current, upgrade
from adapters.postgres.timelines import PostgresTimelines
from adapters.postgres.views import PostgresViews
from adapters.postgres.workers import PostgresWorkers
from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.store import QdrantStore
from adapters.settings import Settings, StoreConnection
from adapters.tables.sources import PostgresSourceTable
from adapters.traces import ServerTraces
from domain.model.errors import NotFound
from domain.model.spec import nearest
from domain.ports import SourceTable, VectorStore
from domain.use_cases.lanes import CALL_DEADLINE
from domain.use_cases.tools import Tools

DEFAULT = "default"
"""Name of the store and of the connection that need no section in the settings file."""


class ConfiguredStores:
    """Vector stores and tables by the names of their connections; opened on first use.

    Args:
        settings: with the URLs of all servers.
        bulk_deadline: seconds for one try of a call that carries or counts many points.
        attempts: tries of a call.
    """

    def __init__(
        self, settings: Settings, *, bulk_deadline: float = 30.0, attempts: int = 4
    ) -> None:
        self._bulk_deadline = bulk_deadline
        self._attempts = attempts
        self._connections = {DEFAULT: settings.database_url or "", **settings.connections}
        self._endpoints = {
            DEFAULT: StoreConnection(settings.qdrant_url or "", settings.qdrant_api_key),
            **settings.stores,
        }
        self._open: dict[str, QdrantStore] = {}

    @property
    def names(self) -> list[str]:
        """Names of the vector stores."""
        return sorted(self._endpoints)

    def store(self, name: str) -> VectorStore:
        """The vector store with this name.

        Raises:
            NotFound: no such store is configured.
        """
        if name not in self._endpoints:
            raise NotFound(
                f"no store is named {name!r} in migration-ledger.toml under [stores]"
                f"{nearest(name, self.names)}"
            )
        if name not in self._open:
            self._open[name] = QdrantStore(
                self.endpoint(name),
                random=Random(),  # noqa: S311  # jitter, not a secret
                deadline=CALL_DEADLINE,
                bulk_deadline=self._bulk_deadline,
                attempts=self._attempts,
            )
        return self._open[name]

    def endpoint(self, name: str) -> Endpoint:
        """Where the store with this name is."""
        connection = self._endpoints[name]
        return Endpoint(connection.url, connection.api_key)

    def table(self, connection: str, table: str) -> SourceTable:
        """The table of this connection.

        Raises:
            NotFound: no such connection is configured.
        """
        if connection not in self._connections:
            raise NotFound(
                f"no connection is named {connection!r} in migration-ledger.toml under "
                f"[connections]{nearest(connection, sorted(self._connections))}"
            )
        return PostgresSourceTable(self._connections[connection], table)

    async def close(self) -> None:
        """Close what was opened."""
        for store in self._open.values():
            await store.close()


@dataclass(frozen=True)
class Service:
    """Everything that commands, workers and the API work with.

    Attributes:
        settings: with the URLs of embedded servers filled in.
        embedded: servers that are embedded.
        identity: id of the ledger.
    """

    settings: Settings
    embedded: frozenset[str]
    identity: str
    database: Database
    ledger: PostgresLedger
    applications: PostgresApplications
    ranges: PostgresFlowRanges
    leaders: PostgresLeaders
    cursors: PostgresCursors
    timelines: PostgresTimelines
    views: PostgresViews
    workers: PostgresWorkers
    objects: SparingObjects
    garbage: PostgresGarbage
    stores: ConfiguredStores
    applying: ConfiguredStores

    @property
    def tools(self) -> Tools:
        """The ports that use cases take together."""
        return Tools(self.ledger, self.objects, self.applications, self.ranges, self.stores)

    @property
    def applier_tools(self) -> Tools:
        """The same for an applier, whose calls end soon: a lane tries again, not a call."""
        return replace(self.tools, stores=self.applying)

    @property
    def traces(self) -> ServerTraces:
        """What servers keep of deleted points and objects."""
        endpoint = self.stores.endpoint(DEFAULT)
        return ServerTraces(self.database, self.embedded, DEFAULT, endpoint)

    def publisher(self) -> Publisher:
        """A new publisher of the ledger, for the relay."""
        return publisher_to(self.settings, embedded="kafka" in self.embedded)

    def changes(self) -> ChangeConsumer:
        """A new consumer of changes, for an applier; appliers of one ledger share a group."""
        settings = kafka_settings(self.settings, embedded="kafka" in self.embedded)
        return ChangeConsumer(settings, ledger=self.identity)


def with_endpoints(settings: Settings) -> Settings:
    """Settings in which the servers that `up` runs in the data directory have their URLs.

    Raises:
        Unavailable: a server is embedded, and `up` never ran here.
    """
    if not settings.embedded:
        return settings
    found = running_endpoints(settings.data_dir, settings.embedded)
    return replace(
        settings,
        database_url=settings.database_url or found.database_url,
        kafka_bootstrap=settings.kafka_bootstrap or found.kafka_bootstrap,
        qdrant_url=settings.qdrant_url or found.qdrant_url,
    )


def kafka_settings(settings: Settings, *, embedded: bool) -> KafkaSettings:
    """How to reach the broker; the embedded one needs its own way, see `docs/adr`."""
    if embedded:
        return KafkaSettings.embedded(settings.kafka_bootstrap or "")
    make = partial(KafkaSettings, bootstrap=settings.kafka_bootstrap or "")
    if settings.kafka_sasl_mechanism:
        make = partial(make, sasl_mechanism=settings.kafka_sasl_mechanism)
    return make(
        security_protocol=settings.kafka_security_protocol,
        username=settings.kafka_username,
        password=settings.kafka_password,
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
        key_password=settings.kafka_key_password,
    )


def publisher_to(settings: Settings, *, embedded: bool) -> Publisher:
    """A new publisher to the broker of these settings."""
    return Publisher(kafka_settings(settings, embedded=embedded))


def object_storage(settings: Settings) -> StoredObjects:
    """The storage of objects that are too large for the database.

    Raises:
        Rejected: it cannot be opened.
    """
    return StoredObjects(settings.storage_url)


@asynccontextmanager
async def open_service(
    settings: Settings, *, create: bool = False, recovering: bool = False
) -> AsyncIterator[Service]:
    """Connect to everything; servers other than the database are connected to on first use.

    Args:
        settings: see `adapters.settings`.
        create: bring the database schema up to date instead of only checking it.
        recovering: whether this is for a recovery, which goes on while work is halted.

    Raises:
        Unavailable: the database cannot be reached, or its schema is not current.
    """
    embedded = settings.embedded
    settings = with_endpoints(settings)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings.database_url or "", recovering=recovering)
        )
        if create:
            await upgrade(database)
        else:
            await require_current(database)
        ledger = await stack.enter_async_context(PostgresLedger(database))
        stores = ConfiguredStores(settings)
        stack.push_async_callback(stores.close)
        applying = ConfiguredStores(settings, bulk_deadline=CALL_DEADLINE, attempts=1)
        stack.push_async_callback(applying.close)
        yield Service(
            settings=settings,
            embedded=embedded,
            identity=(await ledger.standing()).ledger,
            database=database,
            ledger=ledger,
            applications=PostgresApplications(database, ledger.wakeups),
            ranges=PostgresFlowRanges(database),
            leaders=PostgresLeaders(database),
            cursors=PostgresCursors(database),
            timelines=PostgresTimelines(database),
            views=PostgresViews(database),
            workers=PostgresWorkers(database),
            objects=SparingObjects(
                database, SizedObjects(PostgresObjects(database), object_storage(settings))
            ),
            garbage=PostgresGarbage(database, ledger.wakeups),
            stores=stores,
            applying=applying,
        )
