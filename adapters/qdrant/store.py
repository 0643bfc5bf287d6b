"""`QdrantStore`: the vector store port on a Qdrant server."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Self

from adapters.qdrant.calls import Calls
from adapters.qdrant.concurrency import in_order, prefetched
from adapters.qdrant.encoding import (
    batch_of,
    dense_message,
    fill_points,
    key_of_id,
    point_id,
)
from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.layout import PAYLOAD, UNLIMITED, VECTORS, Layout, Place, keywords
from adapters.qdrant.payload import payload_of
from adapters.qdrant.schema import (
    create_request,
    index_request,
    missing_indexes,
    schema_of,
    update_request,
    vectors_of,
)
from adapters.qdrant.sizes import (
    CALL_POINTS,
    IN_FLIGHT,
    chunks,
    expected_point_bytes,
    page_points,
    runs,
    spans,
)
from adapters.qdrant.witness import fill_witness, witness_in
from adapters.qdrant_grpc import qdrant
from domain.model.errors import NotFound, Rejected, SchemaMismatch
from domain.model.points import PointBatch, encode_dense
from domain.model.recipes.recipe import CollectionDescription
from domain.model.schema import CollectionSchema
from domain.model.timeline import Witness
from domain.ports import Hit
from domain.use_cases.concurrently import concurrently


class QdrantStore:
    """A Qdrant server (1.16 or newer) as a `VectorStore`. Make it inside a running event loop.

    Args:
        endpoint: of its gRPC API.
        random: draws the jitter of the back-off.
        deadline: seconds for one try of a call.
        bulk_deadline: seconds for one try of a call that carries many points, counts them, or
            builds an index.
        attempts: tries of a call.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        random: Random,
        deadline: float = 5.0,
        bulk_deadline: float = 30.0,
        attempts: int = 4,
    ) -> None:
        self._channel = endpoint.channel()
        self._bulk_deadline = bulk_deadline
        self._calls = Calls(endpoint, deadline=deadline, attempts=attempts, random=random)
        points: Any = qdrant.PointsStub
        collections: Any = qdrant.CollectionsStub
        service: Any = qdrant.QdrantStub
        self._points = points(self._channel)
        self._collections = collections(self._channel)
        self._service = service(self._channel)
        self._layouts: dict[str, Layout] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def version(self) -> str:
        """The server's version."""
        request = qdrant.HealthCheckRequest()
        answer = await self._calls.send(
            self._service.HealthCheck, request, what="reading the version"
        )
        return str(answer.version)

    async def collections(self) -> list[str]:
        """Physical names."""
        request = qdrant.ListCollectionsRequest()
        answer = await self._calls.send(self._collections.List, request, what="listing collections")
        return sorted(collection.name for collection in answer.collections)

    async def aliases(self) -> dict[str, str]:
        """Alias to physical name."""
        request = qdrant.ListAliasesRequest()
        answer = await self._calls.send(
            self._collections.ListAliases, request, what="listing aliases"
        )
        return {alias.alias_name: alias.collection_name for alias in answer.aliases}

    async def describe(self, name: str) -> CollectionDescription | None:
        """A collection by its physical name, or None.

        Raises:
            Rejected: it has a setting that we would lose.
        """
        # Qdrant would resolve an alias.
        if name not in await self.collections():
            return None
        try:
            info = await self._info(name)
            points = await self.count(name)
        except NotFound:
            return None
        try:
            return CollectionDescription(name, schema_of(info), points)
        except Rejected as exc:
            raise Rejected(f"collection {name!r} cannot be carried: {exc}") from exc

    async def create(
        self, name: str, schema: CollectionSchema, *, witness: Witness | None = None
    ) -> None:
        """Make a collection with its indexes; again changes nothing.

        Raises:
            SchemaMismatch: a collection of that name exists with other vectors.
            Rejected: a setting or an index that Qdrant does not have.
        """
        request, update = create_request(name, schema), update_request(name, schema)
        if witness is not None:
            fill_witness(request.metadata, witness)
        if name not in await self.collections():
            try:
                await self._calls.send(
                    self._collections.Create,
                    request,
                    what=f"creating collection {name!r}",
                    deadline=self._bulk_deadline,
                )
            except Rejected:
                # Another caller, or a try whose answer was lost, may have made it.
                if name not in await self.collections():
                    raise
            if update is not None:
                await self._calls.send(
                    self._collections.Update, update, what=f"updating collection {name!r}"
                )
        info = await self._info(name)
        found = CollectionSchema(vectors_of(info))
        if differences := schema.differences(found):
            raise SchemaMismatch(name, differences)
        for field, index in missing_indexes(schema, info).items():
            await self._calls.send(
                self._points.CreateFieldIndex,
                index_request(name, field, index),
                what=f"indexing {field!r} of {name!r}",
                deadline=self._bulk_deadline,
            )

    async def drop(self, name: str) -> None:
        """Drop a collection; again changes nothing."""
        self._layouts.clear()
        request = qdrant.DeleteCollection(collection_name=name)
        try:
            await self._calls.send(
                self._collections.Delete,
                request,
                what=f"dropping collection {name!r}",
                deadline=self._bulk_deadline,
            )
        except NotFound:
            return

    async def read_witness(self, name: str) -> Witness | None:
        """What a collection says of the ledger; None if it says nothing or does not exist."""
        try:
            info = await self._info(name)
        except NotFound:
            return None
        return witness_in(name, info.config.metadata)

    async def write_witness(self, name: str, witness: Witness | None) -> None:
        """Let a collection say how far the ledger is in it, or nothing any more."""
        request = qdrant.UpdateCollection(collection_name=name)
        fill_witness(request.metadata, witness)
        await self._calls.send(
            self._collections.Update, request, what=f"updating the metadata of {name!r}"
        )

    async def upsert(self, name: str, points: PointBatch) -> None:
        """Write full images of points; returns when they are visible and durable.

        Raises:
            Rejected: a point comes twice, or the collection does not have its vectors.
        """
        if len(set(points.keys)) != len(points):
            raise Rejected(f"writing to {name!r}: a batch has the same point twice")
        await self._fitting(name, partial(self._write, name, points))

    async def delete(self, name: str, keys: Sequence[bytes]) -> None:
        """Delete points; those that do not exist are ignored."""
        await self._fitting(name, partial(self._delete, name, sorted(set(keys))))

    async def scan(
        self, name: str, *, after: bytes = b"", page: int = CALL_POINTS, limit: int | None = None
    ) -> AsyncIterator[PointBatch]:
        """Points with keys after `after`, in key order, in pages of at most about 16 MB.

        While the caller works on a page the next one is fetched, but none beyond `limit` points.
        """
        layout = await self._layout(name, fresh=True)
        page = min(page, layout.reads)

        async def fetch(place: Place) -> tuple[PointBatch, Place | None]:
            most = min(place.limit, place.left)
            request = qdrant.ScrollPoints(
                collection_name=name,
                offset=place.offset,
                limit=min(most + bool(place.skip), layout.reads),
                with_payload=PAYLOAD,
                with_vectors=VECTORS,
            )
            answer = await self._calls.send(
                self._points.Scroll,
                request,
                what=f"scanning {name!r}",
                deadline=self._bulk_deadline,
            )
            batch = batch_of(answer.result, layout.columns)
            # The offset is inclusive; `after` is not.
            if batch.keys[:1] == [place.skip]:
                batch = batch.take(range(1, len(batch)))
            following = answer.next_page_offset if answer.HasField("next_page_offset") else None
            if len(batch) > most:  # `after` itself is not there any more
                following, batch = point_id(batch.keys[most]), batch.take(range(most))
            left = place.left - len(batch)
            if not left or following is None:
                return batch, None
            size = answer.ByteSize() // max(len(answer.result), 1)
            return batch, Place(following, b"", page_points(page, size), left)

        first = page_points(page, expected_point_bytes(layout.columns))
        start = Place(
            point_id(after) if after else None, after, first, UNLIMITED if limit is None else limit
        )
        pages = prefetched(fetch, start)
        try:
            async for batch in pages:
                if len(batch):
                    yield batch
        finally:
            await pages.aclose()

    async def retrieve(self, name: str, keys: Sequence[bytes]) -> PointBatch:
        """These points, in key order; those that do not exist are left out."""
        layout = await self._layout(name)
        size = page_points(layout.lookups, expected_point_bytes(layout.columns))

        async def send(some: Sequence[bytes]) -> PointBatch:
            request = qdrant.GetPoints(
                collection_name=name,
                ids=map(point_id, some),
                with_payload=PAYLOAD,
                with_vectors=VECTORS,
            )
            answer = await self._calls.send(
                self._points.Get, request, what=f"reading {name!r}", deadline=self._bulk_deadline
            )
            return batch_of(answer.result, layout.columns)

        some = runs(sorted(set(keys)), size)
        batches = await concurrently(map(send, some), IN_FLIGHT)
        found = PointBatch.concatenate(batches)
        return found.take(sorted(range(len(found)), key=found.keys.__getitem__))

    async def count(self, name: str) -> int:
        """Exact number of points."""
        request = qdrant.CountPoints(collection_name=name, exact=True)
        answer = await self._calls.send(
            self._points.Count, request, what=f"counting {name!r}", deadline=self._bulk_deadline
        )
        return int(answer.result.count)

    async def point_alias(self, alias: str, name: str) -> None:
        """Let an alias point to a collection, in one atomic action, whether it existed or not.

        Raises:
            Rejected: a collection has the name of the alias.
        """
        # CreateAlias overwrites; deleting and creating would leave a gap.
        created = qdrant.CreateAlias(alias_name=alias, collection_name=name)
        await self._change_alias(
            qdrant.AliasOperations(create_alias=created), f"pointing alias {alias!r} to {name!r}"
        )

    async def remove_alias(self, alias: str) -> None:
        """Remove an alias; again changes nothing."""
        deleted = qdrant.DeleteAlias(alias_name=alias)
        try:
            await self._change_alias(
                qdrant.AliasOperations(delete_alias=deleted), f"removing alias {alias!r}"
            )
        except NotFound:
            return

    async def search(
        self,
        name: str,
        vector: Sequence[float],
        *,
        using: str = "",
        limit: int = 10,
        match: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """The nearest points, optionally only those whose payload has these keyword values."""
        layout = await self._layout(name)
        request = qdrant.QueryPoints(
            collection_name=name,
            query=qdrant.Query(
                nearest=qdrant.VectorInput(dense=dense_message(encode_dense(vector)))
            ),
            using=using or None,
            filter=keywords(match or {}),
            limit=limit,
            with_payload=PAYLOAD,
        )
        answer = await self._calls.send(self._points.Query, request, what=f"searching {name!r}")
        column = layout.columns.get(using)
        sign = -1.0 if column is not None and column.lower_is_nearer else 1.0
        return [
            Hit(key_of_id(hit.id), sign * hit.score, payload_of(hit.payload), name)
            for hit in answer.result
        ]

    async def _info(self, name: str) -> qdrant.CollectionInfo:
        request = qdrant.GetCollectionInfoRequest(collection_name=name)
        answer = await self._calls.send(self._collections.Get, request, what=f"describing {name!r}")
        info: qdrant.CollectionInfo = answer.result
        self._layouts[name] = Layout.of(info)
        return info

    async def _layout(self, name: str, *, fresh: bool = False) -> Layout:
        if fresh or name not in self._layouts:
            await self._info(name)
        return self._layouts[name]

    async def _fitting(self, name: str, write: Callable[[Layout], Awaitable[None]]) -> None:
        """Write as the collection takes it."""
        layout = await self._layout(name)
        try:
            await write(layout)
        except Rejected:
            # It may have other limits, or the name another collection, since we looked at it.
            fresh = await self._layout(name, fresh=True)
            if fresh == layout:
                raise
            await write(fresh)

    async def _write(self, name: str, points: PointBatch, layout: Layout) -> None:
        for vector in points.vectors:
            if vector not in layout.columns:
                raise Rejected(f"writing to {name!r}: it has no vector {vector!r}")

        async def send(rows: range) -> None:
            request = qdrant.UpsertPoints(collection_name=name, wait=True)
            fill_points(request.points, points.take(rows), layout.columns)
            await self._calls.send(
                self._points.Upsert,
                request,
                what=f"writing to {name!r}",
                deadline=self._bulk_deadline,
            )

        await in_order(send, chunks(points, layout.writes), in_flight=layout.writers)

    async def _delete(self, name: str, keys: Sequence[bytes], layout: Layout) -> None:
        async def send(rows: range) -> None:
            request = qdrant.DeletePoints(collection_name=name, wait=True)
            request.points.points.ids.extend(point_id(keys[row]) for row in rows)
            await self._calls.send(
                self._points.Delete,
                request,
                what=f"deleting from {name!r}",
                deadline=self._bulk_deadline,
            )

        await in_order(send, spans(len(keys), layout.writes), in_flight=layout.writers)

    async def _change_alias(self, action: qdrant.AliasOperations, what: str) -> None:
        self._layouts.clear()
        await self._calls.send(
            self._collections.UpdateAliases, qdrant.ChangeAliases(actions=[action]), what=what
        )
