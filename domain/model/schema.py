"""How a collection is set up: vectors, payload indexes and settings, as data.

A `CollectionSchema` is what a step records and what a store is asked to create. It is carried in
events as plain JSON, so everything here has `to_json` and `from_json`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from domain.model.errors import Rejected


class Distance(StrEnum):
    """How a store compares dense vectors."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLID = "euclid"
    MANHATTAN = "manhattan"


class VectorKind(StrEnum):
    """What a vector column holds."""

    DENSE = "dense"
    MULTI = "multi"
    SPARSE = "sparse"


@dataclass(frozen=True)
class VectorSpec:
    """One vector of a collection.

    Attributes:
        kind: dense, multi (several dense rows a point) or sparse.
        dimension: floats a row; 0 for sparse.
        distance: None for sparse.
        settings: everything else that the store keeps for this vector (datatype, HNSW,
            quantization, comparator, modifier, placement), in the store's own names.
    """

    kind: VectorKind
    dimension: int = 0
    distance: Distance | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dense = self.kind is not VectorKind.SPARSE
        if dense and (self.dimension < 1 or self.distance is None):
            raise Rejected(f"a {self.kind} vector needs a dimension and a distance")
        if not dense and (self.dimension or self.distance):
            raise Rejected("a sparse vector has neither dimension nor distance")

    @property
    def shape(self) -> str:
        """What two collections must share for points to move between them."""
        if self.kind is VectorKind.SPARSE:
            return "sparse"
        return f"{self.kind} {self.dimension} {self.distance}"


@dataclass(frozen=True)
class CollectionSchema:
    """What a collection is made with.

    Attributes:
        vectors: by name; the unnamed vector is ``""``.
        indexes: payload field to index parameters (``{"type": "keyword", ...}``).
        settings: settings of the whole collection (HNSW, optimizers, quantization, shards,
            replication, payload placement, strict mode, metadata) in the store's own names.
    """

    vectors: dict[str, VectorSpec]
    indexes: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def dense(self) -> list[str]:
        """Names of the vectors that are rows of numbers, one or several for each point."""
        return [n for n, v in self.vectors.items() if v.kind is not VectorKind.SPARSE]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for events and plans."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "CollectionSchema":
        """The schema that `to_json` wrote."""
        return cls(
            vectors={
                name: VectorSpec(
                    kind=VectorKind(vector["kind"]),
                    dimension=vector["dimension"],
                    distance=Distance(vector["distance"]) if vector["distance"] else None,
                    settings=vector["settings"],
                )
                for name, vector in document["vectors"].items()
            },
            indexes=document["indexes"],
            settings=document["settings"],
        )

    def differences(self, other: "CollectionSchema") -> tuple[str, ...]:
        """A sentence for each vector whose kind, dimension or distance differs from `other`'s."""
        found = []
        for name in sorted(self.vectors.keys() | other.vectors.keys()):
            label = f"vector {name!r}" if name else "the vector"
            ours, theirs = self.vectors.get(name), other.vectors.get(name)
            if ours is None or theirs is None:
                found.append(f"{label} exists on one side only")
            elif ours.shape != theirs.shape:
                found.append(f"{label} is {ours.shape} here and {theirs.shape} there")
        return tuple(found)

    def missing_indexes(self, found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The indexes that are not among `found`, or not with these parameters.

        What a store adds to the parameters, and further indexes, change no answer and do not count.
        """
        return {
            field: asked
            for field, asked in self.indexes.items()
            if not asked.items() <= found.get(field, {}).items()
        }
