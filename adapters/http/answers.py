"""JSON answers, written by orjson."""

from typing import Any

import orjson
from fastapi.responses import JSONResponse


class OrjsonResponse(JSONResponse):
    """A JSON answer; what is not finite becomes null."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return orjson.dumps(content)
