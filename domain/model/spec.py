"""Specs: what a person asks for, checked before anything else looks at it.

`Spec` has what every recipe shares; a recipe extends it. Its JSON Schema is published in
`docs/reference/`.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.model.errors import InvalidSpec

_SECRET_KEYS = {"password", "passwd", "api_key", "apikey", "token", "secret", "dsn"}
_CREDENTIALS_IN_URL = re.compile(
    rf"://[^/\s:@]*:[^/\s@]+@|://\S*[?&](?:{'|'.join(sorted(_SECRET_KEYS))})=", re.IGNORECASE
)
_WAY_OUT = (
    "and specs are recorded; name a connection and put its URL into migration-ledger.toml "
    "or an environment variable"
)


class Section(BaseModel):
    """A part of a spec: unknown keys are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Batch(Section):
    """How points move."""

    size: int = Field(default=500, ge=1, le=5000, description="Points in a change set.")


class Spec(Section):
    """What every spec says."""

    version: Literal[1] = Field(description="Version of the spec format.")
    name: str = Field(min_length=1, max_length=200, description="What people call this migration.")
    recipe: str = Field(description="Kind of migration.")
    reason: str = Field(min_length=1, description="Why; recorded with every event.")
    ticket: str = Field(default="", description="Where the change was asked for.")
    batch: Batch = Batch()
    on_failure: Literal["rollback", "pause"] = Field(
        default="rollback", description="What happens when a step fails."
    )


def refuse_credentials(document: Any, path: str = "spec") -> None:
    """Specs are recorded for ever, so nothing secret may be in one.

    Raises:
        InvalidSpec: a URL has a password, or a key is one that holds secrets.
    """
    if isinstance(document, Mapping):
        for key, value in document.items():
            refuse_credentials(str(key), f"a key of {path}")
            if str(key).lower() in _SECRET_KEYS:
                raise InvalidSpec((f"{path}.{key} looks like a credential, {_WAY_OUT}",))
            refuse_credentials(value, f"{path}.{key}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            refuse_credentials(value, f"{path}[{index}]")
    elif isinstance(document, str) and _CREDENTIALS_IN_URL.search(document):
        raise InvalidSpec((f"{path} has a password in a URL, {_WAY_OUT}",))


def parse(model: type[Spec], document: Mapping[str, Any]) -> Spec:
    """The spec that a document describes.

    Raises:
        InvalidSpec: with a sentence for each problem; unknown keys come with the nearest known.
    """
    try:
        return model.model_validate(dict(document))
    except ValidationError as error:
        raise InvalidSpec(tuple(_sentence(model, problem) for problem in error.errors())) from error


def _sentence(model: type[BaseModel], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *parents, key = problem["loc"]
        return f"unknown key {where!r}{nearest(str(key), _keys_at(model, parents))}"
    if problem["type"] == "missing":
        return f"missing key {where!r}"
    return f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _keys_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    for part in path:
        found = next(
            (
                field.annotation
                for name, field in model.model_fields.items()
                if part in {name, field.alias}
            ),
            None,
        )
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            return []
        model = found
    return [field.alias or name for name, field in model.model_fields.items()]


def nearest(word: str, known: list[str]) -> str:
    """A clause that names the nearest known word, or the known ones."""
    close = get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""
