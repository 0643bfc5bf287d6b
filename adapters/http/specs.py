"""Specs in request bodies: JSON or YAML."""

import asyncio
from typing import Annotated, Any

import orjson
import yaml
from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from domain.model.errors import InvalidSpec

JSON_TYPE = "application/json"
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
DEEPEST = 32
_UNSUPPORTED = 415


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more than memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not taken here")
        return super().compose_node(parent, index)


async def spec_of(request: Request) -> dict[str, Any]:
    """The document in the body of a request.

    Raises:
        InvalidSpec: it is not what its content type says, or not a mapping.
        HTTPException: the content type is neither JSON nor YAML.
    """
    kind = request.headers.get("content-type", JSON_TYPE).partition(";")[0].strip().lower()
    if kind not in {JSON_TYPE, *YAML_TYPES}:
        raise HTTPException(_UNSUPPORTED, f"a spec is {JSON_TYPE} or {YAML_TYPES[0]}, not {kind}")
    body = await request.body()
    read = _read_json if kind == JSON_TYPE else _read_yaml
    document = await asyncio.to_thread(read, body)
    if not isinstance(document, dict):
        raise InvalidSpec(("the body is not a mapping of keys, such as `version: 1`",))
    _refuse_deep(document)
    return document


SpecBody = Annotated[dict[str, Any], Depends(spec_of)]


def _read_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidSpec((f"the body is not JSON: {error}",)) from error


def _read_yaml(body: bytes) -> Any:
    try:
        return yaml.load(body, _Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidSpec((f"the body is not YAML: {' '.join(str(error).split())}",)) from error
    except RecursionError as error:
        raise InvalidSpec(("the body is nested too deeply",)) from error


def _refuse_deep(document: Any) -> None:
    level = [document]
    for _ in range(DEEPEST):
        level = [
            child
            for value in level
            for child in (
                value.values()
                if isinstance(value, dict)
                else value
                if isinstance(value, list)
                else ()
            )
        ]
        if not level:
            return
    raise InvalidSpec((f"the spec is nested more than {DEEPEST} levels deep",))
