"""What collections say of the ledger in their metadata."""

from typing import Any

import pytest

from adapters.qdrant.payload import fill_value
from adapters.qdrant.witness import KEY, fill_witness, witness_in
from adapters.qdrant_grpc import qdrant
from domain.model.timeline import Witness

WITNESS = Witness("collection docs", 812, "ab" * 32, 2, "6f1c", (), "0011", 7, unfinished=True)
ENTRY = {
    "position": 812,
    "hash": "ab" * 32,
    "timeline": 2,
    "ledger": "6f1c",
    "generation": "0011",
    "version": 7,
    "unfinished": True,
}


def metadata(entry: Any) -> Any:
    config = qdrant.CollectionConfig()
    fill_value(config.metadata["owner"], "search")
    fill_value(config.metadata[KEY], entry)
    return config.metadata


def test_a_witness_is_read_as_it_was_written() -> None:
    request = qdrant.UpdateCollection()
    fill_witness(request.metadata, WITNESS)
    assert witness_in("docs", request.metadata) == WITNESS


def test_the_entry_is_for_others_to_read_too() -> None:
    assert witness_in("docs", metadata(ENTRY)) == WITNESS


def test_nothing_is_removed_with_null() -> None:
    request = qdrant.UpdateCollection()
    fill_witness(request.metadata, None)
    assert request.metadata[KEY].WhichOneof("kind") == "null_value"


@pytest.mark.parametrize(
    "entry",
    [None, "x", [], {}, {**ENTRY, "hash": "zz"}, {**ENTRY, "position": "many"}],
    ids=["null", "text", "list", "empty", "no hash", "no position"],
)
def test_what_is_no_witness_says_nothing(entry: Any) -> None:
    assert witness_in("docs", metadata(entry)) is None
    assert witness_in("docs", qdrant.CollectionConfig().metadata) is None
