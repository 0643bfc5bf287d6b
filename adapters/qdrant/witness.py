"""What a collection says of the ledger: one entry of its metadata, which Qdrant has since 1.16.

Metadata is written without touching points, segments or optimizers, and goes with the collection
into its snapshots. An update merges entries, so those of others stay as they are.
"""

from collections.abc import Mapping
from typing import Any

from adapters.qdrant.payload import fill_value, plain
from adapters.qdrant_grpc import qdrant
from domain.model.timeline import Witness

KEY = "migration_ledger"
"""Of the entry. No schema has it: a copy of the collection says nothing of the ledger."""

_FIELDS = ("position", "hash", "timeline", "ledger", "generation", "version", "unfinished")


def witness_in(name: str, metadata: Mapping[str, qdrant.Value]) -> Witness | None:
    """What the metadata of a collection say; None if they do not, or say something else."""
    entry: Any = plain(metadata[KEY]) if KEY in metadata else None
    try:
        return Witness(
            where=f"collection {name}",
            position=int(entry["position"]),
            hash=bytes.fromhex(entry["hash"]).hex(),
            timeline=int(entry["timeline"]),
            ledger=str(entry["ledger"]),
            generation=str(entry["generation"]),
            version=int(entry["version"]),
            unfinished=bool(entry["unfinished"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def fill_witness(metadata: Any, witness: Witness | None) -> None:
    """Set the entry in the metadata of a request; None removes it from the collection."""
    entry = None if witness is None else {field: getattr(witness, field) for field in _FIELDS}
    fill_value(metadata[KEY], entry)
