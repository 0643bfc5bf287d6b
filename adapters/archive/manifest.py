"""What an archive says it holds: one JSON document, written last and in one step."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from adapters.archive.errors import Damaged
from domain.model.recorded import Cursor

NAME = "manifest.json"
FORMAT = "migration-ledger/archive/1"
EVENTS, ANSWERS, OBJECTS = "events", "answers", "objects"


@dataclass(frozen=True)
class Part:
    """A file of an archive.

    Attributes:
        kind: ``events``, ``answers`` or ``objects``.
        path: below the folder.
        count: lines or rows that it has.
        size: in bytes.
        digest: SHA-256 of its bytes, hexadecimal.
    """

    kind: str
    path: str
    count: int
    size: int
    digest: str


@dataclass(frozen=True)
class Lacking:
    """An object that the ledger refers to and that could not be read.

    Attributes:
        address: of the object.
        manifest: whether it is a manifest of a change set, or a body of points.
        why: a sentence.
    """

    address: str
    manifest: bool
    why: str


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        ledger: id of the ledger.
        head: the last event.
        recorded_at: when that was recorded, ISO 8601; empty if there is none.
        exported_at: when the archive was written, ISO 8601.
        parts: its files but for large objects, in the order in which they are read.
        large: number of large objects.
        large_size: of these together, in bytes.
        lacking: objects that could not be read when it was written.
    """

    ledger: str
    head: Cursor
    recorded_at: str
    exported_at: str
    parts: tuple[Part, ...] = ()
    large: int = 0
    large_size: int = 0
    lacking: tuple[Lacking, ...] = ()

    def of(self, kind: str) -> list[Part]:
        """The files of one kind."""
        return [part for part in self.parts if part.kind == kind]

    def count(self, kind: str) -> int:
        """How many events, answers or small objects there are."""
        return sum(part.count for part in self.of(kind))

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(part.size for part in self.parts) + self.large_size

    def encode(self) -> bytes:
        """The document, with the SHA-256 of its other fields."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "ledger": self.ledger,
            "head": {"position": self.head.position, "hash": self.head.hash.hex()},
            "recorded_at": self.recorded_at,
            "exported_at": self.exported_at,
            "parts": [vars(part) for part in self.parts],
            "large": self.large,
            "large_size": self.large_size,
            "lacking": [vars(one) for one in self.lacking],
        }
        document["sha256"] = _digest(document)
        return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def decode(content: bytes, where: Path) -> Manifest:
    """The manifest that `Manifest.encode` wrote.

    Raises:
        Damaged: it is something else.
    """
    try:
        document = orjson.loads(content)
        said = document.pop("sha256", None)
        if document["format"] != FORMAT:
            raise Damaged(
                (f"{where} is of format {document['format']!r}; this program reads {FORMAT!r}",)
            )
        if said != _digest(document):
            raise Damaged((f"{where} is not what was written",))
        return Manifest(
            ledger=document["ledger"],
            head=Cursor(document["head"]["position"], bytes.fromhex(document["head"]["hash"])),
            recorded_at=document["recorded_at"],
            exported_at=document["exported_at"],
            parts=tuple(Part(**part) for part in document["parts"]),
            large=document["large"],
            large_size=document["large_size"],
            lacking=tuple(Lacking(**one) for one in document["lacking"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged((f"{where} is not the manifest of an archive",)) from error


def _digest(document: Mapping[str, Any]) -> str:
    return sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
