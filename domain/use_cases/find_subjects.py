"""Find the points of a person: by ids or by what payloads say, in every version, and their copies.

What a filter looks for may itself be personal: it is turned into ids here, and kept nowhere.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from domain.model.bodies import decode_without_vectors
from domain.model.erasure import Holding, Subject, together
from domain.model.errors import NotFound
from domain.model.generation import Generation
from domain.model.points import decode_payload, id_of
from domain.model.spec import nearest
from domain.ports import GenerationStatus
from domain.use_cases.concurrently import concurrently
from domain.use_cases.tools import Tools

IDS_AT_ONCE = 1000
"""Points that are looked up at a time, and that one erasure erases."""

BODIES_AT_ONCE = 4


@dataclass(frozen=True)
class Affected:
    """What of a generation is to be erased.

    Attributes:
        status: of the generation.
        named: whether it was asked for; else it has copies of what was.
        released: whether the ledger no longer looks after the collection, which may be there.
        keys: of the points.
        there: how many of them it has now.
        objects: addresses of the bodies that they are in and that are there.
    """

    status: GenerationStatus
    named: bool
    released: bool
    keys: frozenset[bytes]
    there: int
    objects: frozenset[str]


@dataclass
class Found:
    """Points that are to be erased.

    Attributes:
        affected: by generation, in the order in which these were made.
        unknown: keys that were asked for, and that no version of these collections ever had.
        erased: keys that were asked for, and were erased before.
    """

    affected: list[Affected] = field(default_factory=list)
    unknown: list[bytes] = field(default_factory=list)
    erased: list[bytes] = field(default_factory=list)

    @property
    def keys(self) -> set[bytes]:
        """Of all points."""
        return {key for one in self.affected for key in one.keys}

    @property
    def objects(self) -> set[str]:
        """The bodies that all points are in."""
        return {address for one in self.affected for address in one.objects}

    def parts(self) -> Iterator[set[Subject]]:
        """The points in parts, each for an erasure; the same ids are in one part."""
        keys = sorted(self.keys)
        for start in range(0, len(keys), IDS_AT_ONCE):
            part = set(keys[start : start + IDS_AT_ONCE])
            yield {(one.status.generation, key) for one in self.affected for key in one.keys & part}


async def find_by_ids(tools: Tools, keys: Collection[bytes], within: "Scope") -> Found:
    """What there is of these points in any version.

    Raises:
        NotFound: there is no such collection.
    """
    named = await within.generations(tools)
    found = await _holdings(tools, keys)
    seeds = [one for one in found if one.generation in named]
    absent = set(keys) - {one.key for one in seeds}
    erased = await tools.ledger.erased_among(absent) if absent else set()
    affected = await _affected(tools, found, seeds, named)
    return Found(affected, sorted(absent - erased), sorted(erased))


async def find_by_values(tools: Tools, match: Mapping[str, str], within: "Scope") -> Found:
    """What there is of the points whose payload has, or had in any version, all of these values.

    Every body is read; memory stays at a few of them and the ids.

    Raises:
        NotFound: there is no such collection.
        Corrupt: a body is missing or altered, so that nobody knows what is in it.
    """
    named = await within.generations(tools)
    rows: dict[bytes, set[tuple[str, int]]] = defaultdict(set)
    seen = set[str]()
    for generation in named:
        async for addresses in tools.ledger.bodies(generation):
            new = [address for address in addresses if address not in seen]
            seen.update(new)
            looked = (_matching(tools, address, match) for address in new)
            for address, keys in zip(new, await concurrently(looked, BODIES_AT_ONCE), strict=True):
                for row, key in keys:
                    rows[key].add((address, row))
    found = await _holdings(tools, rows)
    seeds = [one for one in found if one.generation in named and one.bodies & rows[one.key]]
    return Found(await _affected(tools, found, seeds, named))


@dataclass(frozen=True)
class Scope:
    """In which collections points are looked for.

    Attributes:
        collections: names, logical or physical; none means all.
        store: name of a store connection; empty means all.
    """

    collections: Sequence[str] = ()
    store: str = ""

    async def generations(self, tools: Tools) -> set[UUID]:
        """All generations of these collections.

        Raises:
            NotFound: there is no such collection.
        """
        known = await tools.applications.generations(store=self.store or None)
        for name in self.collections:
            if not any(name in {status.collection, status.physical} for status in known):
                names = sorted({status.collection for status in known})
                raise NotFound(f"the ledger has no collection {name!r}{nearest(name, names)}")
        wanted = set(self.collections)
        return {
            status.generation
            for status in known
            if not wanted or wanted & {status.collection, status.physical}
        }


async def _holdings(tools: Tools, keys: Collection[bytes]) -> list[Holding]:
    wanted, found = sorted(keys), list[Holding]()
    for start in range(0, len(wanted), IDS_AT_ONCE):
        found += await tools.ledger.holdings(wanted[start : start + IDS_AT_ONCE])
    return found


async def _matching(
    tools: Tools, address: str, match: Mapping[str, str]
) -> list[tuple[int, bytes]]:
    content = await tools.objects.get(address)
    return await asyncio.to_thread(_matching_rows, content, match)


def _matching_rows(content: bytes, match: Mapping[str, str]) -> list[tuple[int, bytes]]:
    points = decode_without_vectors(content)
    return [
        (row, key)
        for row, (key, payload) in enumerate(zip(points.keys, points.payloads, strict=True))
        if payload and _has(decode_payload(payload), match)
    ]


def _has(payload: Mapping[str, Any], match: Mapping[str, str]) -> bool:
    """Whether a payload has these values, each itself or in a list; as text, or as JSON has it."""
    return all(
        wanted in (one if isinstance(one, str) else json.dumps(one) for one in _at(payload, path))
        for path, wanted in match.items()
    )


def _at(value: Any, path: str) -> Iterator[Any]:
    """The values of a field; dots lead into objects, unless a field has them in its name."""
    if isinstance(value, list):
        for one in value:
            yield from _at(one, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping):
        first, _, rest = path.partition(".")
        if path in value:
            yield from _at(value[path], "")
        elif rest and first in value:
            yield from _at(value[first], rest)


async def _affected(
    tools: Tools, holdings: Sequence[Holding], seeds: Sequence[Holding], named: Collection[UUID]
) -> list[Affected]:
    of: dict[UUID, list[Holding]] = defaultdict(list)
    for holding in together(holdings, [one.subject for one in seeds]):
        of[holding.generation].append(holding)
    found = []
    for status in await tools.applications.generations():
        if status.generation in of:
            some = of[status.generation]
            found.append(
                Affected(
                    status=status,
                    named=status.generation in named,
                    released=status.gone and await _released(tools, status.generation),
                    keys=frozenset(one.key for one in some),
                    there=sum(one.there for one in some),
                    objects=frozenset[str]().union(*(one.objects for one in some)),
                )
            )
    return found


async def _released(tools: Tools, generation: UUID) -> bool:
    loaded = await tools.ledger.load(Generation, generation)
    return loaded is not None and loaded.released


def ids_of(keys: Collection[bytes]) -> list[int | str]:
    """The ids of points, in key order."""
    return [id_of(key) for key in sorted(keys)]
