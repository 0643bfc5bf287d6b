"""What calls about points have to know of a collection, and parts of their requests."""

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.qdrant.encoding import Column
from adapters.qdrant.schema import columns_of
from adapters.qdrant.sizes import CALL_POINTS, IN_FLIGHT
from adapters.qdrant_grpc import qdrant

PAYLOAD = qdrant.WithPayloadSelector(enable=True)
VECTORS = qdrant.WithVectorsSelector(enable=True)

UNLIMITED = 2**31


@dataclass(frozen=True)
class Layout:
    """What calls about points have to know of a collection.

    Attributes:
        columns: its vectors.
        writes: points that it takes in one call.
        reads: points that it answers in one call.
        lookups: ids that it takes in one call.
        writers: calls that may write at a time.
    """

    columns: dict[str, Column]
    writes: int
    reads: int
    lookups: int
    writers: int

    @classmethod
    def of(cls, info: qdrant.CollectionInfo) -> "Layout":
        """The layout of a collection, within the limits of its strict mode."""
        strict = info.config.strict_mode_config
        writes, reads, lookups, writers = CALL_POINTS, UNLIMITED, CALL_POINTS, IN_FLIGHT
        if strict.enabled:
            writes = min(writes, strict.upsert_max_batchsize or writes)
            reads = strict.max_query_limit or reads
            # Limits per minute count points: a call with more of them than those of a minute is
            # always refused.
            writes = min(writes, strict.write_rate_limit or writes)
            lookups = min(lookups, reads, strict.read_rate_limit or lookups)
            # One after the other, so that what was let through is the beginning.
            writers = 1 if strict.write_rate_limit else writers
        return cls(columns_of(info), writes, reads, lookups, writers)


@dataclass(frozen=True)
class Place:
    """Where a page of a scan begins.

    Attributes:
        offset: of its first point, which is in the page; None for the first of all.
        skip: key that the page leaves out, or ``b""``.
        limit: points that it may have, besides the one that it leaves out.
        left: points that the scan may still have.
    """

    offset: qdrant.PointId | None
    skip: bytes
    limit: int
    left: int


def keywords(match: Mapping[str, str]) -> qdrant.Filter | None:
    """A filter for points that have all these keyword values."""
    if not match:
        return None
    return qdrant.Filter(
        must=[
            qdrant.Condition(
                field=qdrant.FieldCondition(key=key, match=qdrant.Match(keyword=value))
            )
            for key, value in sorted(match.items())
        ]
    )
