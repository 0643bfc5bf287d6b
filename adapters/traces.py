"""What servers keep of deleted points and objects: the embedded ones let go of it."""

from collections import Counter
from collections.abc import Collection

from adapters.postgres.connection import Database
from adapters.postgres.vacuum import vacuum as vacuum_database
from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.vacuum import vacuum as vacuum_node
from domain.model.errors import NotFound, Rejected

POSTGRES = (
    "PostgreSQL keeps deleted rows in its files: run `VACUUM (FULL) migration_ledger.objects` and "
    "let its write-ahead log and its backups expire"
)


class ServerTraces:
    """Implements `domain.ports.Traces`.

    Args:
        database: of the ledger.
        embedded: which servers are embedded.
        node: name of the store that the embedded node is.
        endpoint: of that node.
    """

    def __init__(
        self, database: Database, embedded: Collection[str], node: str, endpoint: Endpoint
    ) -> None:
        self._database = database
        self._embedded = embedded
        self._node = node
        self._endpoint = endpoint

    async def remove(self, collections: Collection[tuple[str, str]]) -> list[str]:
        """Let embedded servers write their files anew; says what to do about the others."""
        by_hand, others = [], Counter[str]()
        for store, name in sorted(collections):
            if store == self._node and "qdrant" in self._embedded:
                by_hand += await self._vacuumed(name)
            else:
                others[store] += 1
        by_hand += [
            f"the Qdrant of store {store!r} keeps deleted points of {count} collections in its "
            "files until its optimizer has written them anew, and in its snapshots"
            for store, count in others.items()
        ]
        if "database" in self._embedded:
            await vacuum_database(self._database)
        else:
            by_hand.append(POSTGRES)
        return by_hand

    async def _vacuumed(self, name: str) -> list[str]:
        try:
            await vacuum_node(self._endpoint, [name])
        except NotFound:  # it was dropped meanwhile, with its files
            return []
        except Rejected as error:
            return [f"the files of {name!r} could not be written anew: {error}"]
        return []
