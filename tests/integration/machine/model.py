"""What collections should be: dicts, changed as an application would expect it. Nothing else."""

from collections.abc import Collection as Some
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from domain.model.points import Digest, PointBatch, encode_dense, encode_payload, id_of, key_of

Id = int | str
IDS: tuple[Id, ...] = (*range(1, 9), *(f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)))
"""Few, so that changes meet."""


@dataclass(frozen=True)
class Point:
    """A point.

    Attributes:
        payload: of it.
        vector: its bytes.
    """

    payload: Mapping[str, Any]
    vector: bytes

    def with_fields(self, fields: Mapping[str, Any]) -> "Point":
        """The point with some fields of its payload set."""
        return Point({**self.payload, **fields}, self.vector)


Points = dict[Id, Point]


def point(number: int) -> Point:
    """A point that no other number has."""
    vector = np.random.default_rng(number).standard_normal(8)
    return Point({"n": number, "text": text(number)}, encode_dense(vector / np.linalg.norm(vector)))


def text(number: int) -> str:
    """What nobody finds who looks for the text of another number."""
    return f"somebody said this {number:06}"


def traces(number: int) -> tuple[bytes, bytes]:
    """What is left of a point wherever it is in part."""
    return text(number).encode(), point(number).vector


def batch(points: Mapping[Id, Point]) -> PointBatch:
    """Points as the product has them, in the order of their keys."""
    ids = sorted(points, key=key_of)
    return PointBatch(
        keys=[key_of(one) for one in ids],
        payloads=[encode_payload(points[one].payload) for one in ids],
        vectors={"": [points[one].vector for one in ids]},
    )


def hashes(points: Mapping[Id, Point]) -> dict[bytes, bytes]:
    """The hash of each point by its key."""
    made = batch(points)
    return dict(zip(made.keys, made.hashes(), strict=True))


def rows(points: PointBatch) -> dict[bytes, tuple[bytes, bytes | None]]:
    """Payload and vector of each point by its key."""
    vectors = points.vectors.get("", [])
    return {
        key: (payload, vector)
        for key, payload, vector in zip(points.keys, points.payloads, vectors, strict=True)
    }


def rows_of(points: Mapping[Id, Point]) -> dict[bytes, tuple[bytes, bytes | None]]:
    """The same of points of the model."""
    return rows(batch(points))


def differing(found: Mapping[bytes, Any], expected: Mapping[bytes, Any]) -> str:
    """Which points are missing, more, or other than expected; empty if none."""
    kinds = {
        "missing": expected.keys() - found.keys(),
        "extra": found.keys() - expected.keys(),
        "changed": {key for key in found.keys() & expected.keys() if found[key] != expected[key]},
    }
    return ", ".join(
        f"{kind} {', '.join(str(id_of(key)) for key in sorted(keys))}"
        for kind, keys in kinds.items()
        if keys
    )


def digest(points: Mapping[Id, Point]) -> str:
    """The digest of a version that has these points."""
    made, found = batch(points), Digest()
    found.extend(made.keys, made.hashes())
    return found.hexdigest()


@dataclass
class Moment:
    """A version of a collection.

    Attributes:
        name: that the collection had.
        at: a label, or a position.
        points: that it had, but those that were erased.
        labelled: whether a digest was recorded.
        digest: that it had.
        erased: how many of its points are erased.
    """

    name: str
    at: str
    points: Points
    labelled: bool
    digest: str
    erased: int = 0

    def erase(self, ids: Some[Id]) -> None:
        """Some of its points are gone for good."""
        for one in self.points.keys() & set(ids):
            del self.points[one]
            self.erased += 1


@dataclass
class Done:
    """A migration that can be undone.

    Attributes:
        spec: of it.
        migration: its id.
        name: of the collection before.
        ours: whether the ledger had made the collection before.
        known: whether the ledger looked after it before.
        before: points before, where the migration is a restore.
        written: ids that applications wrote since.
        warm: the collection that gets what is written to the new one, or nothing.
        replaced: whether the collection before was dropped.
        archived: whether nobody can go back to what was before any more.
    """

    spec: dict[str, Any]
    migration: UUID
    name: str
    ours: bool
    known: bool
    before: Points | None = None
    written: set[Id] = field(default_factory=set)
    warm: str = ""
    replaced: bool = False
    archived: bool = False


@dataclass
class Collection:
    """A collection as its clients see it.

    Attributes:
        name: by which they use it.
        ours: whether the ledger made what serves it.
        known: whether the ledger looks after it.
        points: that it has, by the ledger where that looks after it.
        strays: what the store has instead, by id; None where it lacks the point.
        done: migrations that can be undone, the last one last.
        undone: specs of migrations that were undone since the last one that was not.
        names: that it has had.
        told: all points that the ledger was told of, by id, the last one last.
        erased: numbers of those of them that are erased.
    """

    name: str
    ours: bool
    known: bool
    points: Points = field(default_factory=dict)
    strays: dict[Id, Point | None] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    undone: list[dict[str, Any]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    told: dict[Id, list[Point]] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)

    @property
    def copies(self) -> list[Done]:
        """Migrations that gave it another generation."""
        return [one for one in self.done if one.before is None]

    @property
    def stored(self) -> Points:
        """What its store has once everything is applied."""
        return {one: found for one, found in (self.points | self.strays).items() if found}

    def write(self, changes: Mapping[Id, Point | None]) -> None:
        """An application writes points, and deletes those that are None."""
        for one, new in changes.items():
            self._tell(one, new)
            if self.points.get(one) == new:
                continue
            self._put(one, new)
            self.strays.pop(one, None)
            for earlier in self.done:
                earlier.written.add(one)

    def stray(self, one: Id, new: Point | None) -> None:
        """Others write to the store behind the ledger's back."""
        if not self.known:
            self._put(one, new)
        elif self.points.get(one) == new:
            self.strays.pop(one, None)
        else:
            self.strays[one] = new

    def take_in(self) -> None:
        """What others wrote counts from here on."""
        self.write(dict(self.strays))
        self.look_after(self.name)

    def look_after(self, name: str) -> None:
        """The ledger knows all of its points from here on."""
        self.names |= {self.name, name}
        self.name, self.known = name, True
        for one, there in self.points.items():
            self._tell(one, there)

    def repair(self, *, keep_extra: bool) -> None:
        """What others wrote is undone."""
        kept = {one: new for one, new in self.strays.items() if keep_extra and self.is_extra(one)}
        self.strays = kept

    def is_extra(self, one: Id) -> bool:
        """Whether the store has a point that the ledger does not have."""
        return one in self.strays and one not in self.points

    def roll_back(self) -> None:
        """The last migration is undone, and what was written since stays."""
        last = self.done.pop()
        if last.before is not None:
            changed = (self.points.keys() | last.before.keys()) - last.written
            for one in changed:
                self._put(one, last.before.get(one))
        self.name, self.known = last.name, last.known
        self.ours = True if last.replaced else last.ours
        if last.replaced:  # it was made anew: there is nothing left of what a restore changed
            self.done.clear()
        self.undone.append(last.spec)

    def archive(self) -> None:
        """Nobody goes back to what it was any more."""
        self.undone.clear()
        for earlier in self.done:
            earlier.archived = True

    def erase(self, ids: Some[Id]) -> None:
        """Points go for good, also from what a rollback brings back."""
        if self.known:
            self.write(dict.fromkeys(ids))
        for one in ids:
            self.erased |= {told.payload["n"] for told in self.told.get(one, ())}
            for earlier in self.done:
                (earlier.before or {}).pop(one, None)

    def _tell(self, one: Id, new: Point | None) -> None:
        if new is not None:
            self.told.setdefault(one, []).append(new)
            self.erased.discard(new.payload["n"])

    def _put(self, one: Id, new: Point | None) -> None:
        if new is None:
            self.points.pop(one, None)
        else:
            self.points[one] = new


@dataclass
class Model:
    """Everything that should be.

    Attributes:
        collections: all of them.
        moments: versions of them.
    """

    collections: list[Collection]
    moments: list[Moment] = field(default_factory=list)

    @property
    def strayed(self) -> list[Collection]:
        """Collections that somebody wrote to past the ledger.

        An applier that takes over from one that died looks at what that wrote last, and puts it
        right. So no applier dies as long as there are some, and what differs is known exactly.
        """
        return [one for one in self.collections if one.strays]

    def note(self, collection: Collection, at: str, *, labelled: bool = False) -> None:
        """The collection is a version now that can be asked for later."""
        points = dict(collection.points)
        self.moments.append(Moment(collection.name, at, points, labelled, digest(points)))

    def moments_of(self, collection: Collection) -> list[Moment]:
        """Versions of a collection under the name that it has now."""
        return [moment for moment in self.moments if moment.name == collection.name]

    def erase(self, collections: Some[Collection], ids: Some[Id]) -> None:
        """Points of some collections go for good, from every version."""
        for collection in collections:
            collection.erase(ids)
            for moment in self.moments:
                if moment.name in collection.names:
                    moment.erase(ids)

    def archive(self, collection: Collection) -> None:
        """Nobody goes back to what a collection was under its name, but to its labels."""
        collection.archive()
        self.moments = [one for one in self.moments if one.labelled or one.name != collection.name]
