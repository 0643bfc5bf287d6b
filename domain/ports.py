"""What the use cases need from the outside. Adapters implement these protocols.

Every method may raise `Unavailable`; what else it raises is said where it is.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol, TypeVar
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from domain.model.aggregate import Context, LedgerAggregate
from domain.model.bodies import Manifest
from domain.model.erasure import Holding
from domain.model.points import PointBatch
from domain.model.recipes.recipe import CollectionDescription, SourceRow
from domain.model.recorded import Answer, ChangeSetDraft, Command, Cursor, Heads, Recorded
from domain.model.schema import CollectionSchema
from domain.model.timeline import Finding, Standing, Timeline, Witness

A = TypeVar("A", bound=LedgerAggregate)


class Ledger(Protocol):
    """The event store: the only truth. While it is halted it records nothing new."""

    async def append(self, command: Command) -> Answer:
        """Record a command's events.

        Raises:
            VersionConflict: a stream is at another version than the events expect.
            KeyReused: the key was used for other content.
            Halted: work is halted, and the command is new.
        """

    async def record(
        self,
        key: str,
        context: Context,
        drafts: Sequence[ChangeSetDraft],
        events: Sequence[AggregateEvent] = (),
        *,
        bodies: Mapping[str, bytes] = MappingProxyType({}),
        content: bytes | None = None,
    ) -> Answer:
        """Record change sets, their manifests and heads, and further events, in one transaction.

        Events of erasures have their effect on heads and bodies in it, too.

        Args:
            key: idempotency key.
            context: who, why, in answer to what.
            drafts: change sets, in order.
            events: further events, after those of the change sets.
            bodies: small objects that are kept in the same transaction, by address.
            content: what the key stands for, where drafts depend on what is there; by default it
                is what is recorded.

        Raises:
            VersionConflict: as in `append`, for `events`.
            KeyReused: the key was used for other content.
            Halted: work is halted, and the command is new.
            Conflict: a point is not what a draft is based on, or live writes are held.
            BodyErased: a draft refers to points that were erased, or to where they were.
            ChangedMeanwhile: points that an erasure begins with were copied since it was planned.
            Rejected: a generation does not exist, or was dropped or released.
        """

    async def pack(self, context: Context, generation: UUID, heads: Heads) -> int:
        """Record that the bodies of points are elsewhere from now on; how many points moved.

        Args:
            context: who, why, in answer to what.
            generation: its stream.
            heads: what the points were when they were read, and where their bodies are now.

        Raises:
            ChangedMeanwhile: one of the points is something else by now.
            Halted: work is halted.
            Rejected: the generation does not exist, or was dropped or released.
        """

    async def answer(self, key: str) -> Answer | None:
        """The answer that a key got, or None."""

    async def load(self, aggregate: type[A], stream: UUID) -> A | None:
        """The aggregate as it is now, or None if it has no events."""

    async def events(
        self, stream: UUID, *, after: int = 0, through: int | None = None
    ) -> list[Recorded]:
        """Events of one stream with versions in (after, through]."""

    async def read(self, after: int, limit: int, *, topics: str | None = None) -> list[Recorded]:
        """The next events after a position; `topics` is a prefix such as ``migration.``."""

    async def event_at(self, stream: UUID, position: int) -> Recorded | None:
        """The last event of a stream up to a position of the ledger, or None."""

    async def position_at(self, time: datetime) -> int:
        """The position of the last event that was recorded until then; 0 if there is none."""

    async def head(self) -> Cursor:
        """Position and hash of the last event."""

    async def verify_cursor(self, cursor: Cursor) -> None:
        """Check that the ledger has this event with this hash.

        Raises:
            Corrupt: the cursor is ahead of the ledger, or of another history.
        """

    async def standing(self) -> Standing:
        """Which ledger this is, on which timeline, and whether work is halted."""

    async def halt(self, findings: Sequence[Finding]) -> None:
        """Halt all work until `recover`; findings are added to those that were made before."""

    async def working(self) -> None:
        """Check that work may go on.

        Raises:
            Halted: it may not.
        """

    async def wait(self, after: int, seconds: float) -> None:
        """Return when there is an event after the position, or after so many seconds."""

    async def manifests(self, addresses: Sequence[str]) -> dict[str, Manifest]:
        """Manifests by address.

        Raises:
            Corrupt: one is missing, or its content has another address.
        """

    async def heads(
        self, generation: UUID, *, after: bytes = b"", limit: int = 5000, at: int | None = None
    ) -> Heads:
        """The next heads of a generation in key order; fewer than `limit` at the end.

        Args:
            generation: its stream.
            after: key that they come after.
            limit: at most so many.
            at: version of the generation's stream at which they counted; None for now.
        """

    async def heads_of(
        self, generation: UUID, keys: Sequence[bytes], *, at: int | None = None
    ) -> Heads:
        """The heads of these points, in key order; points without a head are left out.

        Args:
            generation: its stream.
            keys: of the points.
            at: version of the generation's stream at which they counted; None for now.
        """

    async def heads_among(
        self, generations: Sequence[UUID], keys: Sequence[bytes]
    ) -> list[tuple[UUID, bytes, bytes]]:
        """Which of these generations have which of these points now: stream, key and hash.

        One that was dropped or released has none.
        """

    async def hashes_between(
        self, generation: UUID, keys: Sequence[bytes], first: int, last: int
    ) -> dict[bytes, set[bytes | None]]:
        """What each of these points was from one version to another, both included.

        The hashes that it had; None among them if it was not there at one of these versions.
        """

    async def holdings(self, keys: Collection[bytes]) -> list[Holding]:
        """Everything that any generation has and had of these points, unless it is erased."""

    async def erased_among(self, keys: Collection[bytes]) -> set[bytes]:
        """Those of these points that were erased from some generation."""

    async def erasing(self, limit: int, but: Collection[str] = ()) -> dict[str, set[int]]:
        """Some of the bodies that have erased rows and are not rewritten yet: address to rows.

        Args:
            limit: at most so many.
            but: addresses that are left out.
        """

    async def unusable(self, addresses: Collection[str]) -> set[str]:
        """Those of these addresses under which nothing new may be kept.

        Their bodies were rewritten by an erasure, or will be.
        """

    async def count_erased(self, generation: UUID, at: int) -> int:
        """How many points a version of a generation had that are erased."""

    def bodies(self, generation: UUID) -> AsyncIterator[list[str]]:
        """Addresses of all bodies that any version of a generation refers to, in pages."""

    async def count_bodies(self, generation: UUID) -> int:
        """How many bodies the points of a generation lie in now."""

    async def count_points_in(self, generation: UUID, addresses: Sequence[str], at: int) -> int:
        """How many points of a version of a generation have one of these bodies."""


class Garbage(Protocol):
    """Bodies to which nothing refers that anybody can go back to.

    They go in three steps, so that nobody can name one whose object is gone: condemned, which
    anything that refers to one ends; given up, from when on it may not be named; deleted.
    """

    async def condemn(self) -> int:
        """Condemn the bodies that nothing refers to any more; how many."""

    async def give_up(self, grace: timedelta, context: Context) -> int:
        """Give up the next bodies that were condemned for so long, as an event; how many.

        Those to which something refers by now stay. So do those that a change needs which a store
        has not applied yet.

        Raises:
            Halted: work is halted.
        """

    async def dispose(self, delete: Callable[[Sequence[str]], Awaitable[None]]) -> int:
        """Have the objects of the next bodies deleted that were given up; how many.

        Nobody writes an object of the same address meanwhile. Those that were written again since
        they were given up stay.
        """


SMALL_OBJECT = 64 * 2**10
"""Objects up to this many bytes are rows in the ledger's database rather than files."""


class Objects(Protocol):
    """Content-addressed, durable bytes."""

    async def put(self, content: bytes) -> str:
        """Keep bytes and return their address; when it returns, they survive a power cut."""

    async def get(self, address: str) -> bytes:
        """The bytes of an address, checked.

        Raises:
            Corrupt: they are missing, or not what the address says.
        """

    async def missing(self, addresses: Sequence[str]) -> set[str]:
        """Those of these addresses under which nothing is."""

    async def delete(self, addresses: Sequence[str]) -> None:
        """Delete what is under these addresses, durably; nothing there is no error."""


class Traces(Protocol):
    """What servers keep in their files of points and objects that were deleted."""

    async def remove(self, collections: Collection[tuple[str, str]]) -> list[str]:
        """Let nothing of them be left, as far as that can be asked for.

        Args:
            collections: names of stores and of physical collections that points were deleted from.

        Returns what somebody has to do by hand, in a sentence each.
        """


@dataclass(frozen=True)
class GenerationStatus:
    """Where a generation stands.

    Attributes:
        generation: its stream.
        collection: logical name.
        store: store connection.
        physical: name in the store.
        recorded: last version of its stream.
        applied: version up to which the store has it.
        points: points that the ledger says it has.
        halted_at: version of the change that the store refuses, or None.
        gone: dropped or released.
        holders: migrations that hold the writes of applications.
        archived_before: nobody goes back to versions before this one.
        kept_versions: but to these.
    """

    generation: UUID
    collection: str
    store: str
    physical: str
    number: int
    recorded: int
    applied: int
    points: int
    halted_at: int | None
    gone: bool
    holders: tuple[str, ...]
    archived_before: int
    kept_versions: tuple[int, ...]

    def archived(self, through: int) -> bool:
        """Whether a version was archived, so that nobody goes back to it."""
        return through < self.archived_before and through not in self.kept_versions


@dataclass(frozen=True)
class Lease:
    """The right to apply to one generation.

    Attributes:
        generation: its stream.
        holder: name of the applier.
        epoch: grows with every new holder.
        applied: version up to which the store had it when the lease was taken.
        taken_over: another holder's lease ran out before; its last window must be verified.
    """

    generation: UUID
    holder: str
    epoch: int
    applied: int
    taken_over: bool


@dataclass(frozen=True)
class Recovered:
    """What a recovery found in the collection of a generation, and did about it.

    Attributes:
        through: version up to which the store has every change now.
        made: whether the collection was gone and was made again.
        missing: points that the store lacked.
        extra: points that the ledger does not have.
        changed: points that had other content.
        left: how many of these were left as they were.
        lacking: how many could not be written, because their bodies are gone.
        cause: which bodies; empty if none.
    """

    through: int
    made: bool = False
    missing: int = 0
    extra: int = 0
    changed: int = 0
    left: int = 0
    lacking: int = 0
    cause: str = ""


class Applications(Protocol):
    """Who applies which generation, and how far it is."""

    async def status(self, generation: UUID) -> GenerationStatus | None:
        """Where a generation stands."""

    async def generations(
        self,
        *,
        store: str | None = None,
        physical: str | None = None,
        collection: str | None = None,
    ) -> list[GenerationStatus]:
        """All generations, oldest first, or those with this store, physical or logical name."""

    async def lagging(self) -> list[GenerationStatus]:
        """Generations that are not halted and have changes to apply."""

    async def acquire(
        self, generation: UUID, holder: str, ttl: float, grace: float
    ) -> Lease | None:
        """Take or keep the lease for `ttl` seconds of the database's clock.

        None while another holder's lease runs, and for `grace` seconds (the deadline of a call to
        the store) after it ran out.

        Raises:
            Halted: work is halted.
        """

    async def renew(self, holder: str, ttl: float, generations: Sequence[UUID]) -> set[UUID]:
        """Extend a holder's leases of these generations; returns those that it still holds.

        Raises:
            Halted: work is halted.
        """

    async def release(self, holder: str) -> None:
        """Give all leases of a holder back, without a grace for the next one."""

    async def receipt(self, lease: Lease, through: int, points: int, context: Context) -> None:
        """Record that the store has everything up to a version.

        Raises:
            Conflict: the lease was lost.
        """

    async def dead_letter(
        self, lease: Lease, change: int, category: str, cause: str, context: Context
    ) -> None:
        """Record a change that the store refuses; halts the generation.

        Raises:
            Conflict: the lease was lost.
        """

    async def recovered(
        self, lease: Lease, timeline: int, recovered: Recovered, context: Context
    ) -> None:
        """Record what a recovery did to a generation; one that lacks points halts.

        Raises:
            Conflict: the lease was lost.
        """

    async def retry(self, generation: UUID, context: Context) -> None:
        """Try the dead letter of a generation again.

        Raises:
            Rejected: it has none.
        """

    async def skip(self, generation: UUID, context: Context) -> None:
        """Give the dead letter of a generation up.

        Raises:
            Rejected: it has none.
        """


@dataclass(frozen=True)
class RangeClaim:
    """A range of a flow, claimed by a worker.

    Attributes:
        flow: stream of the flow.
        number: of the range, from 0.
        request: what to do, as the flow's planner wrote it.
        attempt: 1 for the first worker.
    """

    flow: UUID
    number: int
    request: dict[str, Any]
    attempt: int


class FlowRanges(Protocol):
    """The queue of ranges that flow workers claim."""

    async def plan(
        self,
        flow: UUID,
        requests: Sequence[dict[str, Any]],
        *,
        source: UUID | None = None,
        until: datetime | None = None,
    ) -> None:
        """Put the first ranges of a flow into the queue; again changes nothing.

        Args:
            flow: its stream.
            requests: what each range reads: points after a key, or changes since a version.
            source: generation whose changes it reads, if it does.
            until: when such ranges are not claimed any more, before `wake`.
        """

    async def claim(self, holder: str, ttl: float) -> RangeClaim | None:
        """Claim a range that is free or whose lease ran out, or None.

        A range that reads changes is free as soon as there are any.

        Raises:
            Halted: work is halted.
        """

    async def renew(self, claim: RangeClaim, holder: str, ttl: float) -> bool:
        """Extend the lease; False if another worker has it now."""

    async def finish(self, claim: RangeClaim, following: dict[str, Any] | None = None) -> None:
        """Take a range out of the queue and put the one that follows it in, at once.

        One that reads changes is free after a pause, so that it finds several.
        """

    async def put_back(self, claim: RangeClaim, error: str, *, failed: bool = True) -> None:
        """Give a range back, with the reason, so that it is tried again.

        Args:
            claim: of the range.
            error: the reason.
            failed: whether this counts as a failure of the range.
        """

    async def wake(self, flow: UUID) -> None:
        """Let the ranges of a flow be claimed at once: after failures, a pause, or its time."""

    async def rest(self, flow: UUID, at: datetime) -> None:
        """Let a flow read no more changes from a time on, before it is woken."""

    async def next(self, flow: UUID) -> tuple[int, dict[str, Any]] | None:
        """Number and request of the first range of a flow that is in the queue."""

    async def last(self, flow: UUID) -> int:
        """Number of the last range of a flow that was ever put in; -1 if there was none."""

    async def readers(self, generation: UUID) -> list[UUID]:
        """Flows that have still to read points or changes of a generation."""

    async def remaining(self, flow: UUID | None = None) -> int:
        """How many ranges of a flow, or of all flows, are to be worked on."""

    async def failing(self, flow: UUID, attempts: int) -> str | None:
        """The last error of a range that was tried this often, or None."""

    async def cancel(self, flow: UUID) -> None:
        """Take all ranges of a flow out of the queue."""


@dataclass(frozen=True)
class Leadership:
    """A role that one process at a time holds.

    Attributes:
        name: of the role.
        epoch: grows with every new leader.
    """

    name: str
    epoch: int


class Leaders(Protocol):
    """Elects one process for a role that must not run twice."""

    def lead(self, name: str, holder: str) -> AbstractAsyncContextManager[Leadership]:
        """Wait until this process leads; leadership ends with the block or its connection."""

    async def confirm(self, leadership: Leadership) -> None:
        """Check that nobody else leads meanwhile.

        Raises:
            Conflict: the latest leadership is another one.
            Halted: work is halted.
        """


class Cursors(Protocol):
    """Durable cursors of readers of the ledger."""

    async def get(self, name: str) -> Cursor:
        """Where a reader is; the beginning if it never moved."""

    async def advance(self, name: str, cursor: Cursor, leadership: Leadership | None) -> None:
        """Move a cursor forward, or back to the beginning.

        Raises:
            Conflict: `leadership` is not the latest.
        """

    async def reset(self, name: str) -> None:
        """Move a cursor to the beginning, and end the leadership under which it was moved."""


class Timelines(Protocol):
    """The histories of the ledger: only a recovery changes which one is current."""

    async def start(self, timeline: Timeline, context: Context) -> None:
        """Record the start of a timeline and make it the current one; again changes nothing."""

    async def finish(self, timeline: Timeline | None, context: Context) -> None:
        """Let work go on, and record what the timeline decided if there is one."""


Document = dict[str, Any]


@dataclass(frozen=True)
class Build:
    """One build of a read model.

    Attributes:
        name: of the projection.
        number: of the build.
        live: whether readers see it.
        cursor: how far it has come.
    """

    name: str
    number: int
    live: bool
    cursor: Cursor


class Views(Protocol):
    """Read models: documents by key, in builds of which one is live."""

    async def open(self, name: str, shape: int) -> Build:
        """The build to go on with: the live one if it has this shape, else a new one beside it."""

    async def rebuild(self, name: str, shape: int) -> Build:
        """A new, empty build beside the live one."""

    async def load(self, build: Build, keys: Sequence[str]) -> dict[str, Document]:
        """The documents of a build that exist under these keys."""

    async def store(
        self, build: Build, documents: Mapping[str, Document | None], cursor: Cursor
    ) -> Build:
        """Write documents (None deletes) and the cursor in one transaction.

        Raises:
            Conflict: the build's cursor is not where `build` says: another projector moved it.
        """

    async def publish(self, build: Build) -> Build:
        """Let readers see this build instead of the live one, which is deleted, in one step."""

    async def get(self, name: str, key: str) -> Document | None:
        """A document of the live build."""

    async def find(
        self, name: str, *, after: str = "", limit: int = 100, match: Document | None = None
    ) -> list[tuple[str, Document]]:
        """Documents of the live build in key order, optionally those that contain `match`."""

    async def cursor(self, name: str) -> Cursor:
        """How far the live build has come; the beginning if there is none."""

    async def builds(self) -> list[Build]:
        """All builds of all read models."""

    async def retire(self, build: Build) -> None:
        """Let no projector go on with a build; if it is live, readers have it until another is."""


@dataclass(frozen=True)
class WorkerBeat:
    """A sign of life.

    Attributes:
        worker: unique name of the process.
        role: relay, applier, flow, coordinator or projector.
        pid: of the process.
        host: where it runs.
        started: when.
        seconds_ago: seconds since the last sign, by the database's clock.
        detail: what it is at.
    """

    worker: str
    role: str
    pid: int
    host: str
    started: datetime
    seconds_ago: float
    detail: Document


class Workers(Protocol):
    """Who is alive."""

    async def beat(self, worker: str, role: str, detail: Document) -> None:
        """Say that a worker is alive."""

    async def leave(self, worker: str) -> None:
        """Say that a worker stopped as it should."""

    async def alive(self, within: float = 15.0) -> list[WorkerBeat]:
        """Workers that gave a sign within so many seconds."""


@dataclass(frozen=True)
class Hit:
    """A search result.

    Attributes:
        key: id key of the point.
        score: as the store computes it; higher is nearer, whatever the distance.
        payload: canonical JSON.
        collection: physical collection that it came from.
    """

    key: bytes
    score: float
    payload: bytes
    collection: str


LEASE_ENDS: ContextVar[Callable[[], float] | None] = ContextVar("lease_ends", default=None)
"""When the lease of the caller ends, by the loop's clock; stores send nothing after it.

A process that was paused wakes up anywhere in its code. Time-outs are noticed between two
callbacks, which is too late where the next thing is to send what was made before the pause.
"""


class VectorStore(Protocol):
    """A store of collections. Names may be aliases where points are read.

    Raises everywhere:
        Unavailable: no answer within the deadline, after bounded retries.
        Throttled: it takes no more for now. Points are written in the order given and deleted in
            key order; the error says how many are done.
        DiskFull: it has no room.
        Conflict: the lease of `LEASE_ENDS` is over.
        NotFound: the collection does not exist.
        Rejected: the store refuses the content.
    """

    async def version(self) -> str:
        """The server's version."""

    async def collections(self) -> list[str]:
        """Physical names."""

    async def aliases(self) -> dict[str, str]:
        """Alias to physical name."""

    async def describe(self, name: str) -> CollectionDescription | None:
        """A collection by its physical name, or None.

        Raises:
            Rejected: it has a setting that we would lose.
        """

    async def create(
        self, name: str, schema: CollectionSchema, *, witness: Witness | None = None
    ) -> None:
        """Make a collection with its indexes; again changes nothing.

        Args:
            name: physical name.
            schema: of the collection.
            witness: what a new collection says of the ledger from its first moment.

        Raises:
            Rejected: a collection of that name exists with other vectors.
        """

    async def drop(self, name: str) -> None:
        """Drop a collection; again changes nothing."""

    async def read_witness(self, name: str) -> Witness | None:
        """What a collection says of the ledger; None if it says nothing or does not exist."""

    async def write_witness(self, name: str, witness: Witness | None) -> None:
        """Let a collection say how far the ledger is in it, or nothing any more."""

    async def upsert(self, name: str, points: PointBatch) -> None:
        """Write full images of points; returns when they are visible and durable."""

    async def delete(self, name: str, keys: Sequence[bytes]) -> None:
        """Delete points; those that do not exist are ignored."""

    def scan(
        self, name: str, *, after: bytes = b"", page: int = 500, limit: int | None = None
    ) -> AsyncIterator[PointBatch]:
        """All points with keys after `after`, or the first `limit`, in key order, in pages."""

    async def retrieve(self, name: str, keys: Sequence[bytes]) -> PointBatch:
        """These points, in key order; those that do not exist are left out."""

    async def count(self, name: str) -> int:
        """Exact number of points."""

    async def point_alias(self, alias: str, name: str) -> None:
        """Let an alias point to a collection, in one atomic action, whether it existed or not.

        Raises:
            Rejected: a collection has the name of the alias.
        """

    async def remove_alias(self, alias: str) -> None:
        """Remove an alias; again changes nothing."""

    async def search(
        self,
        name: str,
        vector: Sequence[float],
        *,
        using: str = "",
        limit: int = 10,
        match: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """The nearest points, optionally only those whose payload has these keyword values."""


class SourceTable(Protocol):
    """The `sources` table of an application.

    Raises everywhere:
        NotFound: the table, or a column that the migration needs, does not exist.
    """

    async def rows(self) -> list[SourceRow]:
        """All rows in id order."""

    async def replace_names(
        self, changes: Mapping[str, tuple[str | None, str | None]]
    ) -> dict[str, str | None]:
        """Set `collection_names` of rows in one transaction: row id to (expected, new) raw text.

        A row that holds `new` already counts as changed. Returns the rows left alone because they
        hold neither, with what they hold; a deleted row is left alone too (None).
        """

    async def digest(self) -> str:
        """SHA-256 over all rows and columns of the table, in id order."""


class Stores(Protocol):
    """Vector stores and tables by the names of their connections."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the vector stores."""

    def store(self, name: str) -> VectorStore:
        """The vector store with this name.

        Raises:
            NotFound: no such connection is configured.
        """

    def table(self, connection: str, table: str) -> SourceTable:
        """The table of this connection.

        Raises:
            NotFound: no such connection is configured.
        """


EVENTS_TOPIC = "ledger.events"
"""Where every event is published, for everyone."""
CHANGES_TOPIC = "ledger.changes"
"""Where the events of generations are published too, for appliers."""


class EventPublisher(Protocol):
    """Publishes the ledger. What it publishes can be lost, and published again."""

    async def ensure_topics(self) -> None:
        """Create the topics that are missing.

        Raises:
            Rejected: a topic is not as it must be.
        """

    async def publish(self, batch: Sequence[Recorded]) -> None:
        """Publish events in this order per stream; returns when all are acknowledged.

        When it raises, any of them may have been published; publishing them again does no harm.
        """

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        """How many messages were ever in each (topic, partition), of the topics that exist."""

    def begin(self, standing: Standing) -> None:
        """Say with every message from here on of which ledger and timeline it is."""

    async def witnesses(self, ends: Mapping[tuple[str, int], int]) -> list[Witness]:
        """What the last message of each partition of the events topic says.

        Partitions whose end this publisher knows since `begin` are left out.

        Args:
            ends: as `end_offsets` answered.
        """
