"""The `Collections` service, and the health check."""

from dataclasses import replace
from importlib.metadata import version

from adapters.embedded.node.errors import wrong_input
from adapters.embedded.node.rpc import Call, Handler
from adapters.embedded.node.settings import config_from_create, updated
from adapters.embedded.node.store import Store
from adapters.qdrant_grpc import qdrant

QDRANT_VERSION = "1.19.0"
"""The Qdrant release that the engine and the answers of this node follow."""

MAX_NAME = 255
FORBIDDEN_IN_NAMES = '<>:"/\\|?*\0'


class Collections:
    """Handlers of the `Collections` service over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def handlers(self) -> dict[str, Handler]:
        """Handlers by method name."""
        return {
            "Create": self.create,
            "Delete": self.delete,
            "Update": self.update,
            "Get": self.get,
            "List": self.list,
            "CollectionExists": self.exists,
            "UpdateAliases": self.update_aliases,
            "ListAliases": self.list_aliases,
            "ListCollectionAliases": self.list_collection_aliases,
        }

    def create(
        self, request: qdrant.CreateCollection, _call: Call
    ) -> qdrant.CollectionOperationResponse:
        """Make a collection."""
        _check_name(request.collection_name)
        self._store.create(request.collection_name, config_from_create(request))
        return qdrant.CollectionOperationResponse(result=True)

    def delete(
        self, request: qdrant.DeleteCollection, _call: Call
    ) -> qdrant.CollectionOperationResponse:
        """Delete a collection by its own name; true if there was one."""
        deleted = self._store.delete(request.collection_name)
        return qdrant.CollectionOperationResponse(result=deleted)

    def update(
        self, request: qdrant.UpdateCollection, _call: Call
    ) -> qdrant.CollectionOperationResponse:
        """Change settings.

        A `deleted_threshold` of 0 means that nothing deleted may stay in the files, at once.
        """
        optimizers = request.optimizers_config
        if optimizers.HasField("deleted_threshold") and not optimizers.deleted_threshold:
            self._store.rewrite(request.collection_name)
        self._store.change_entry(
            request.collection_name,
            lambda entry: replace(entry, config=updated(entry.config, request)),
        )
        return qdrant.CollectionOperationResponse(result=True)

    def get(
        self, request: qdrant.GetCollectionInfoRequest, _call: Call
    ) -> qdrant.GetCollectionInfoResponse:
        """Settings as they were made, payload indexes and counts."""
        name = self._store.name_of(request.collection_name)
        info = self._store.shard(name).read(lambda engine: engine.info())
        entry = self._store.catalogue.collections[name]
        schema = {}
        for field, kept in entry.indexes.items():
            schema[field] = qdrant.PayloadSchemaInfo()
            schema[field].CopyFrom(kept)
            if field in info.payload_schema:
                schema[field].points = info.payload_schema[field].points
        return qdrant.GetCollectionInfoResponse(
            result=qdrant.CollectionInfo(
                status=qdrant.CollectionStatus.Green,
                optimizer_status=qdrant.OptimizerStatus(ok=True),
                segments_count=info.segments_count,
                points_count=info.points_count,
                indexed_vectors_count=info.indexed_vectors_count,
                config=entry.config,
                payload_schema=schema,
                update_queue=qdrant.UpdateQueueInfo(length=0),
            )
        )

    def list(
        self, _request: qdrant.ListCollectionsRequest, _call: Call
    ) -> qdrant.ListCollectionsResponse:
        """Names of collections, without aliases."""
        return qdrant.ListCollectionsResponse(
            collections=[
                qdrant.CollectionDescription(name=name)
                for name in self._store.catalogue.collections
            ]
        )

    def exists(
        self, request: qdrant.CollectionExistsRequest, _call: Call
    ) -> qdrant.CollectionExistsResponse:
        """Whether a name or an alias means a collection."""
        catalogue = self._store.catalogue
        name = catalogue.aliases.get(request.collection_name, request.collection_name)
        return qdrant.CollectionExistsResponse(
            result=qdrant.CollectionExists(exists=name in catalogue.collections)
        )

    def update_aliases(
        self, request: qdrant.ChangeAliases, _call: Call
    ) -> qdrant.CollectionOperationResponse:
        """Change aliases, all or none."""
        self._store.change_aliases(request.actions)
        return qdrant.CollectionOperationResponse(result=True)

    def list_aliases(
        self, _request: qdrant.ListAliasesRequest, _call: Call
    ) -> qdrant.ListAliasesResponse:
        """Every alias."""
        return _aliases(dict(self._store.catalogue.aliases))

    def list_collection_aliases(
        self, request: qdrant.ListCollectionAliasesRequest, _call: Call
    ) -> qdrant.ListAliasesResponse:
        """The aliases of one collection."""
        name = self._store.name_of(request.collection_name)
        aliases = self._store.catalogue.aliases
        return _aliases({alias: target for alias, target in aliases.items() if target == name})


def health_check(_request: qdrant.HealthCheckRequest, _call: Call) -> qdrant.HealthCheckReply:
    """Which node this is."""
    return qdrant.HealthCheckReply(
        title="migration-ledger embedded node",
        version=QDRANT_VERSION,
        commit=f"qdrant-edge-py {version('qdrant-edge-py')}",
    )


def _aliases(aliases: dict[str, str]) -> qdrant.ListAliasesResponse:
    return qdrant.ListAliasesResponse(
        aliases=[
            qdrant.AliasDescription(alias_name=alias, collection_name=target)
            for alias, target in aliases.items()
        ]
    )


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME:
        raise wrong_input(f"a collection's name must have from 1 to {MAX_NAME} characters")
    for character in FORBIDDEN_IN_NAMES:
        if character in name:
            raise wrong_input(f"collection name cannot contain {character!r} char")
