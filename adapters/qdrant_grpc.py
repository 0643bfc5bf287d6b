"""Qdrant's gRPC messages and stubs, without the rest of `qdrant_client`.

Importing that package builds its REST models and loads a local engine, which nothing here uses:
every process would start more than half a second later.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING

_CLIENT = "qdrant_client"
_NAME = f"{__name__}.grpc"


def _messages() -> ModuleType:
    """The package `qdrant_client.grpc` under a name of ours, whose parent is not the client.

    Protobuf makes one class of a message, so they are the classes that the client has, too.

    Raises:
        ModuleNotFoundError: `qdrant_client` is not installed.
    """
    client = find_spec(_CLIENT)
    spec = client and PathFinder.find_spec(_NAME, client.submodule_search_locations)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named '{_CLIENT}.grpc'", name=_CLIENT)
    module = module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from qdrant_client import grpc as qdrant
else:
    qdrant = _messages()

__all__ = ["qdrant"]
