"""The durable catalogue: which collections there are, how they were configured, and the aliases.

One JSON file, replaced as a whole. Protobuf messages are kept as bytes, so settings of which this
node knows nothing come back too.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from adapters.durable_files import write_durably
from adapters.qdrant_grpc import qdrant

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A collection as catalogued.

    Attributes:
        folder: name of its folder, generated: collection names never become paths.
        config: its settings, as `Get` answers them.
        indexes: payload indexes by field, without their counts.
    """

    folder: str
    config: qdrant.CollectionConfig
    indexes: Mapping[str, qdrant.PayloadSchemaInfo] = field(default_factory=dict)


@dataclass(frozen=True)
class Catalogue:
    """What exists. Never changed in place: a reader sees one whole state.

    Attributes:
        collections: entries by name.
        aliases: collection names by alias.
    """

    collections: Mapping[str, Entry] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


def load(path: Path) -> Catalogue:
    """Read the catalogue; a missing file is an empty one.

    Raises:
        ValueError: the file has a format that this version does not know.
    """
    if not path.exists():
        return Catalogue()
    document = orjson.loads(path.read_bytes())
    if document["format"] != FORMAT:
        raise ValueError(f"{path} has format {document['format']}, this version reads {FORMAT}")
    return Catalogue(
        collections={
            name: Entry(
                folder=entry["folder"],
                config=qdrant.CollectionConfig.FromString(base64.b64decode(entry["config"])),
                indexes={
                    name: qdrant.PayloadSchemaInfo.FromString(base64.b64decode(info))
                    for name, info in entry["indexes"].items()
                },
            )
            for name, entry in document["collections"].items()
        },
        aliases=document["aliases"],
    )


def save(path: Path, catalogue: Catalogue) -> None:
    """Replace the catalogue's file; it is on disk when this returns."""
    document = {
        "format": FORMAT,
        "collections": {
            name: {
                "folder": entry.folder,
                "config": _text(entry.config.SerializeToString()),
                "indexes": {
                    name: _text(info.SerializeToString()) for name, info in entry.indexes.items()
                },
            }
            for name, entry in catalogue.collections.items()
        },
        "aliases": dict(catalogue.aliases),
    }
    write_durably(path, orjson.dumps(document, option=orjson.OPT_INDENT_2), mode=0o600)


def _text(message: bytes) -> str:
    return base64.b64encode(message).decode("ascii")
