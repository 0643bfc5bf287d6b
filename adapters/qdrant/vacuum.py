"""Let the files of collections be written anew, without what was deleted from them."""

from collections.abc import Iterable
from random import Random
from typing import Any

from adapters.qdrant.calls import Calls
from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant_grpc import qdrant

DEADLINE = 600.0
"""Seconds; the embedded node copies some ten thousand points a second."""


async def vacuum(endpoint: Endpoint, names: Iterable[str]) -> None:
    """Write the files of collections of the embedded node anew; again does so again.

    A threshold of 0 asks for it: nothing deleted may stay. It is put back afterwards.

    Raises:
        NotFound: there is no such collection.
        Rejected: the vectors of one would change.
    """
    async with endpoint.channel() as channel:
        stub: Any = qdrant.CollectionsStub
        collections = stub(channel)
        calls = Calls(endpoint, deadline=DEADLINE, attempts=2, random=Random())  # noqa: S311
        for name in names:
            what = f"vacuuming {name!r}"
            asked = qdrant.GetCollectionInfoRequest(collection_name=name)
            answer = await calls.send(collections.Get, asked, what=what)
            threshold = answer.result.config.optimizer_config.deleted_threshold
            for value in (0.0, threshold):
                optimizers = qdrant.OptimizersConfigDiff(deleted_threshold=value)
                update = qdrant.UpdateCollection(collection_name=name, optimizers_config=optimizers)
                await calls.send(collections.Update, update, what=what)
