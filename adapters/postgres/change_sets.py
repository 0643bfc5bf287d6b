"""What drafts of change sets do to heads: which rows count, and what was there before. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from adapters.postgres.appending import framed
from adapters.postgres.mapper import encode_json
from domain.model.aggregate import NOT_RECORDED
from domain.model.bodies import Manifest, address_of, encode_manifest
from domain.model.errors import PointChanged, Rejected
from domain.model.generation import Generation
from domain.model.points import id_of
from domain.model.recorded import ChangeSetDraft

Known = tuple[bytes | None, int]
"""Hash (None for a tombstone) and version of a head."""

ABSENT: Known = (None, 0)


class NewHead(NamedTuple):
    """A head as it is to be written.

    Attributes:
        hash: None for a tombstone.
        address: of the body; None for a tombstone.
        row: in that body.
        version: of the generation's stream.
    """

    hash: bytes | None
    address: str | None
    row: int | None
    version: int


@dataclass
class HeadChanges:
    """What change sets come to for the heads of one generation.

    Attributes:
        heads: what to write, by id key.
        until: version of the first change to each id, which ends what was there before.
        past: heads that a later one of these change sets replaces, and the version of that.
        left: rows of the same bodies that change nothing, by id key.
    """

    heads: dict[bytes, NewHead] = field(default_factory=dict)
    until: dict[bytes, int] = field(default_factory=dict)
    past: list[tuple[bytes, NewHead, int]] = field(default_factory=list)
    left: list[tuple[bytes, NewHead]] = field(default_factory=list)

    def add(self, manifest: Manifest, version: int) -> None:
        """Take the rows of the next change set."""
        self.left += _new_heads(manifest.idle(), version)
        new = dict(_new_heads(manifest.changing(), version))
        again = self.heads.keys() & new.keys()
        self.past += [(key, self.heads[key], version) for key in again if self.heads[key].hash]
        self.until |= dict.fromkeys(new.keys() - again, version)
        self.heads |= new

    def places(self) -> Iterator[tuple[str, int]]:
        """Where points are: addresses of bodies, and rows there."""
        for head in (*self.heads.values(), *(head for _, head, _ in self.past)):
            if head.address is not None and head.row is not None:
                yield head.address, head.row

    def bodies(self) -> set[str]:
        """Addresses of the bodies that are named."""
        return {address for address, _ in self.places()}


@dataclass
class Fold:
    """What drafts come to, in order.

    Attributes:
        events: one for each draft that has rows left.
        manifests: encoded, by address.
        changes: to heads, by generation.
    """

    events: list[Generation.ChangeSetRecorded] = field(default_factory=list)
    manifests: dict[str, bytes] = field(default_factory=dict)
    changes: dict[UUID, HeadChanges] = field(default_factory=lambda: defaultdict(HeadChanges))


def fold(
    drafts: Iterable[ChangeSetDraft],
    versions: Mapping[UUID, int],
    known: Mapping[UUID, dict[bytes, Known]],
) -> Fold:
    """Fold drafts over heads.

    Args:
        drafts: in the order in which they are recorded.
        versions: last version of each generation's stream.
        known: heads of each generation for the ids of the drafts; changed on the way.
    """
    folded = Fold()
    next_versions = dict(versions)
    for draft in drafts:
        heads = known[draft.generation]
        manifest = resolve(draft, heads)
        changing = manifest.changing()
        if not (len(changing) or draft.live):
            continue
        version = next_versions[draft.generation] + 1
        next_versions[draft.generation] = version
        content = encode_manifest(manifest)
        folded.manifests[address_of(content)] = content
        folded.events.append(_event(draft, changing, address_of(content), version))
        if draft.found is None:
            heads.update((key, (hash_, version)) for key, hash_ in _pairs(changing))
            folded.changes[draft.generation].add(manifest, version)
    return folded


def resolve(draft: ChangeSetDraft, heads: Mapping[bytes, Known]) -> Manifest:
    """The rows of a draft that change something, with what was there before.

    With them the others of the same bodies, as rows that change nothing. Of a repair: the rows that
    are still to be as it says, with what the store held.

    Raises:
        Rejected: the draft has a point twice, or columns of different lengths.
        PointChanged: a point is not what the draft is based on.
    """
    _check(draft)
    kept: dict[int, bytes | None] = {}
    captured_at = draft.captured_at
    for row, (key, hash_) in enumerate(zip(draft.keys, draft.hashes, strict=True)):
        head_hash, head_version = heads.get(key, ABSENT)
        if draft.based_on is not None and draft.based_on[row] != head_hash:
            raise PointChanged(str(id_of(key)))
        if draft.found is not None:
            if head_hash == hash_:
                kept[row] = draft.found[row]
            continue
        if head_hash == hash_ or (captured_at is not None and head_version > captured_at):
            continue
        kept[row] = head_hash
    used = sorted({draft.object_index[row] for row in kept if draft.hashes[row] is not None})
    place = {index: position for position, index in enumerate(used)}
    if len(kept) < len(draft.keys):
        images = (row for row, hash_ in enumerate(draft.hashes) if hash_ is not None)
        idle = (row for row in images if row not in kept and draft.object_index[row] in place)
        kept |= {row: draft.hashes[row] for row in idle}
    return Manifest(
        keys=[draft.keys[row] for row in kept],
        before=[*kept.values()],
        hashes=[draft.hashes[row] for row in kept],
        objects=[draft.objects[index] for index in used],
        object_index=[
            0 if draft.hashes[row] is None else place[draft.object_index[row]] for row in kept
        ],
        rows=[0 if draft.hashes[row] is None else draft.rows[row] for row in kept],
    )


def content_of_draft(draft: ChangeSetDraft) -> bytes:
    """SHA-256 of a draft as it was given."""
    return sha256(
        framed(
            [
                draft.generation.bytes,
                *_column(draft.keys),
                *_column(draft.hashes),
                ",".join(draft.objects).encode(),
                np.asarray(draft.object_index, "<i4").tobytes(),
                np.asarray(draft.rows, "<i4").tobytes(),
                encode_json([draft.captured, draft.captured_at, draft.source]),
                *(_column(draft.found) if draft.found is not None else ()),
            ]
        )
    ).digest()


def _column(values: Sequence[bytes | None]) -> list[bytes]:
    """Lengths (-1 for None) and content of a column."""
    lengths = [-1 if value is None else len(value) for value in values]
    return [np.asarray(lengths, "<i4").tobytes(), b"".join(value or b"" for value in values)]


def _check(draft: ChangeSetDraft) -> None:
    columns: list[Sequence[Any]] = [draft.keys, draft.hashes, draft.object_index, draft.rows]
    columns += [column for column in (draft.found, draft.based_on) if column is not None]
    if len({len(column) for column in columns}) > 1:
        raise Rejected("a change set's columns have different lengths")
    if len(set(draft.keys)) < len(draft.keys):
        raise Rejected("a change set has a point twice")


def _pairs(manifest: Manifest) -> Iterable[tuple[bytes, bytes | None]]:
    return zip(manifest.keys, manifest.hashes, strict=True)


def _new_heads(manifest: Manifest, version: int) -> Iterable[tuple[bytes, NewHead]]:
    for key, hash_, index, row in zip(
        manifest.keys, manifest.hashes, manifest.object_index, manifest.rows, strict=True
    ):
        if hash_ is None:
            yield key, NewHead(None, None, None, version)
        else:
            yield key, NewHead(hash_, manifest.objects[index], row, version)


def _event(
    draft: ChangeSetDraft, manifest: Manifest, address: str, version: int
) -> Generation.ChangeSetRecorded:
    kinds = Counter(
        (before is not None, after is not None)
        for before, after in zip(manifest.before, manifest.hashes, strict=True)
    )
    upserts = kinds[False, True] + kinds[True, True]
    repairs = draft.found is not None
    fields: dict[str, Any] = {
        "manifest": address,
        "upserts": upserts,
        "deletes": len(manifest) - upserts,
        "added": 0 if repairs else kinds[False, True] - kinds[True, False],
        "captured": draft.captured,
        "source": draft.source,
    }
    kind = Generation.RepairRecorded if repairs else Generation.ChangeSetRecorded
    return kind(
        originator_id=draft.generation,
        originator_version=version,
        timestamp=NOT_RECORDED,
        **fields,
    )
