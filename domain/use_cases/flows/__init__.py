"""How ranges of flows are read, one file for each way, and this registry of them."""

from collections.abc import Awaitable, Callable

from domain.model.flow import Flow
from domain.use_cases.flows.capture import capture
from domain.use_cases.flows.follow import follow
from domain.use_cases.flows.give_back import give_back
from domain.use_cases.flows.reading import Place, RangeResult
from domain.use_cases.flows.route import route
from domain.use_cases.tools import Tools

Reader = Callable[[Tools, Flow, Place], Awaitable[RangeResult]]

POINTS: dict[str, Reader] = {"capture": capture, "route": route, "follow": route}
CHANGES: dict[str, Reader] = {"follow": follow, "return": give_back}


async def read(tools: Tools, flow: Flow, place: Place) -> RangeResult:
    """Read a range: the points after a key, or the changes since a version."""
    readers = CHANGES if "since" in place.request else POINTS
    return await readers[flow.kind](tools, flow, place)
