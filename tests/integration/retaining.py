"""Versions of a generation, made, read back from their bodies, and kept for a while."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

from domain.model.points import Digest, PointBatch, decode_payload, encode_payload
from domain.model.retention import Retention
from domain.use_cases.read_version import read_version
from domain.use_cases.retention import decide_retention
from domain.use_cases.tools import Tools
from domain.use_cases.versions import Place
from tests.integration.worlds import MARA, STORE, World

NOW = timedelta(0)


def number(points: PointBatch, count: int) -> PointBatch:
    """The same ids with other content for each number."""
    payloads = [decode_payload(payload) | {"version": count} for payload in points.payloads]
    return replace(points, payloads=[*map(encode_payload, payloads)])


async def content(world: World, generation: UUID, at: int, tools: Tools | None = None) -> str:
    """The digest of a version as its bodies have it."""
    digest, status = Digest(), await world.status(generation)
    async for points in read_version(tools or world.tools, Place(status, at, 0)):
        digest.extend(points.keys, points.hashes())
    return f"{digest.points} points {digest.hexdigest()}"


async def keep_since_now(world: World, name: str = "direct") -> None:
    """Keep what a collection is, and no version before that."""
    decide = partial(Retention.set_policy, last=None, since=NOW)
    await decide_retention(world.tools, STORE, name, MARA, decide)
