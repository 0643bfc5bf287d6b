"""Names of collections: the rule for missing ones, and the names of generations."""

import re
import unicodedata
from collections.abc import Collection

from domain.model.errors import Rejected

MAX_NAME = 255
_NOT_WORD = re.compile(r"[^A-Za-z0-9]+")
_FORBIDDEN = set('<>:"/\\|?*\0')


def sanitise(title: str) -> str:
    """A title as part of a collection name: ``Réseau & Internet`` becomes ``Reseau_Internet``.

    Accents are dropped where Unicode knows a base letter, every other run of characters than ASCII
    letters and digits becomes one underscore, case is kept. May be empty.
    """
    decomposed = unicodedata.normalize("NFKD", title)
    base = "".join(c for c in decomposed if not unicodedata.combining(c))
    return _NOT_WORD.sub("_", base).strip("_")


def default_name(title: str, collection_type: str) -> str:
    """The name of a source's collection where none is stored: ``{sanitised title}_{type}``.

    Raises:
        Rejected: nothing of the title is left.
    """
    stem = sanitise(title)
    if not stem:
        raise Rejected(
            f"title {title!r} has no letter or digit to make a name from; "
            f"store a name for {collection_type!r} in collection_names"
        )
    return f"{stem}_{collection_type}"


def problem_with(name: str) -> str | None:
    """Why Qdrant would refuse this collection name, or None."""
    if not name:
        return "a collection name is empty"
    if len(name) > MAX_NAME:
        return f"collection name {name[:40]!r}… is longer than {MAX_NAME} characters"
    forbidden = sorted(_FORBIDDEN & set(name))
    if forbidden:
        return f"collection name {name!r} has the forbidden character {forbidden[0]!r}"
    return None


def next_generation(name: str, taken: Collection[str]) -> str:
    """The first of ``name__g1``, ``name__g2``, and so on that is not taken."""
    number = 1
    while f"{name}__g{number}" in taken:
        number += 1
    return f"{name}__g{number}"
