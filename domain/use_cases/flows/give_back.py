"""Give back: what was written to a copy goes to the collection that its points came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.model.errors import NotFound, Rejected
from domain.model.flow import Flow
from domain.model.points import id_of
from domain.model.recorded import Heads
from domain.use_cases.flows.follow import changes_since
from domain.use_cases.flows.reading import Place, RangeResult, parts_of
from domain.use_cases.flows.route import field_values
from domain.use_cases.tools import Tools


@dataclass(frozen=True)
class WayBack:
    """Between a copy and the collection that its points came from.

    Attributes:
        forward: the flow that made the copies.
        copy: stream of the generation that was written to.
        origin: stream of the generation that the flow read.
        handed_over: its version when the copies began to serve, or when it came back.
    """

    forward: Flow
    copy: UUID
    origin: UUID
    handed_over: int

    @property
    def others(self) -> list[UUID]:
        """The other copies that the same flow made."""
        made = {UUID(route["generation"]) for route in self.forward.routes.values()}
        return sorted(made - {self.copy})

    async def changes(self, tools: Tools, keys: Sequence[bytes]) -> tuple[Heads, list[bytes]]:
        """What becomes of points in the origin: their heads in the copy, and which of them count.

        It goes by what the copy says now: what changed again comes again, and a point that was in
        the way may be gone. What is gone from the copy is deleted in the origin, unless another
        copy has it by now, or the origin never gave it away.

        Args:
            tools: the ports.
            keys: of points that changed in the copy.

        Raises:
            Rejected: an id stands for two points, and the origin can have only one of them.
        """
        heads = await tools.ledger.heads_of(self.copy, keys)
        here = dict(zip(heads.keys, heads.hashes, strict=True))
        elsewhere = await tools.ledger.heads_among(self.others, keys)
        for generation, key, hash_ in elsewhere:
            if here.get(key, hash_) != hash_:
                raise Rejected(await self._collision(tools, key, generation))
        kept_back = await self._never_given(tools, keys)
        for key in keys:
            if key in kept_back and key in here:
                raise Rejected(await self._collision(tools, key, self.origin))
        spared = kept_back | {key for _, key, _ in elsewhere}
        return heads, [key for key in keys if key in here or key not in spared]

    async def _never_given(self, tools: Tools, keys: Sequence[bytes]) -> set[bytes]:
        """Which of these ids the origin had for points that no copy got."""
        was = await tools.ledger.heads_of(self.origin, keys, at=self.handed_over)
        values = await field_values(tools, self.forward, was)
        return {
            key
            for key, value in zip(was.keys, values, strict=True)
            if value not in self.forward.routes
        }

    async def _collision(self, tools: Tools, key: bytes, other: UUID) -> str:
        statuses = [await tools.applications.status(one) for one in (self.copy, other)]
        here, there = (repr(one.physical) if one else "?" for one in statuses)
        return (
            f"point {id_of(key)} is in {here} and in {there}, as different points, and a rollback "
            "puts them into one collection. Delete one of them, or write it under another id"
        )


async def give_back(tools: Tools, flow: Flow, place: Place) -> RangeResult:
    """Make the origin what a copy says of the points that were written to it."""
    way = await _way_back(tools, flow)
    through, keys = await changes_since(tools.ledger, way.copy, place.request["since"])
    result = RangeResult("return", read=len(keys), following={"since": through})
    if not keys:
        return result
    heads, kept = await way.changes(tools, keys)
    result.placed[str(way.origin)] = len(kept)
    result.drafts += [
        heads.draft(
            way.origin,
            part,
            source={**place.source(flow.step), "carried": True},
            unless_in=way.others,  # which may give it back meanwhile: then all is read again
        )
        for part in parts_of(kept, flow.batch)
    ]
    return result


async def _way_back(tools: Tools, flow: Flow) -> WayBack:
    """The way of a flow that gives back."""
    forward = await tools.ledger.load(Flow, flow.reverses) if flow.reverses else None
    if forward is None:
        raise NotFound(f"there is no flow {flow.reverses}")
    (route,) = flow.routes.values()
    return WayBack(forward, flow.source, UUID(route["generation"]), route["captured_at"])
