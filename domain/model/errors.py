"""The error tree. Adapters translate what drivers raise into these, and callers catch these.

Each class says what the caller can do about it; subclasses carry the facts as fields.
"""

from collections.abc import Sequence


class LedgerError(Exception):
    """Something that the ledger was asked to do and did not do."""


class Rejected(LedgerError):
    """The request is wrong and will stay wrong until the caller changes it."""


class NotFound(Rejected):
    """The request names something that does not exist."""


class Conflict(LedgerError):
    """Something else happened first. Reading again and retrying may help."""


class Unavailable(LedgerError):
    """A server did not answer. Retrying later may help."""


class Halted(Unavailable):
    """Work is halted until somebody runs `recover`: other things have seen another history."""


class DiskFull(Unavailable):
    """A server has no room left. Work waits, and goes on when somebody has made room.

    Attributes:
        where: the server.
        said: what it said.
    """

    def __init__(self, where: str, said: str) -> None:
        super().__init__(f"{where}: {said}; make room there, and what waits goes on by itself")
        self.where = where
        self.said = said


class Throttled(Unavailable):
    """A server takes no more for a while.

    Attributes:
        wait: seconds after which it may be asked again, as it says.
        done: of the points that it was to write or delete, how many, from the first, it has.
    """

    def __init__(self, message: str, wait: float, done: int = 0) -> None:
        super().__init__(message)
        self.wait = wait
        self.done = done


class Corrupt(LedgerError):
    """Something recorded is not what it was. Work stops here."""


class ObjectMissing(Corrupt):
    """An object that something recorded refers to is not where it should be."""


class VersionConflict(Conflict):
    """A stream is at another version than the writer expected.

    Attributes:
        stream: id of the stream.
        expected: version that the writer had seen.
        actual: version that the stream has.
    """

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream} is at version {actual}, not {expected}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class ChangedMeanwhile(Conflict):
    """What somebody read to make a change of it is something else by now: read it again."""


class PointChanged(ChangedMeanwhile):
    """A point was changed after somebody read it to make a change of it.

    Attributes:
        point: its id.
    """

    def __init__(self, point: str) -> None:
        super().__init__(f"point {point} was changed meanwhile; read it again")
        self.point = point


class BodyCollected(ChangedMeanwhile):
    """A body that a change refers to was given up since it was read, with the versions that had it.

    Attributes:
        address: of the body.
    """

    def __init__(self, address: str) -> None:
        super().__init__(
            f"body {address} was given up with the versions that retention archived; read again"
        )
        self.address = address


class BodyErased(ChangedMeanwhile):
    """A body that somebody refers to has points that were erased; what is there now is another.

    Attributes:
        address: of the body.
        gone: whether nothing may be under the address any more: the body is rewritten already, or
            had been given up before.
    """

    def __init__(self, address: str, *, gone: bool) -> None:
        super().__init__(f"points of object {address} were erased meanwhile; read them again")
        self.address = address
        self.gone = gone


class WritesHeld(Conflict):
    """A collection takes no writes of applications for now: a migration is at work on it.

    Attributes:
        collection: physical name.
        migrations: ids of those that hold the writes.
    """

    def __init__(self, collection: str, migrations: Sequence[str]) -> None:
        listed = ", ".join(migrations)
        super().__init__(
            f"collection {collection!r} takes no writes: migration {listed} works on it, or has "
            "moved its points elsewhere; see `migration show`"
        )
        self.collection = collection
        self.migrations = tuple(migrations)


class KeyReused(Rejected):
    """An idempotency key came back with other content than the first time.

    Attributes:
        key: the idempotency key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(
            f"idempotency key {key!r} was already used for another request; use a new key"
        )
        self.key = key


class PlanStale(Conflict):
    """The world has changed since a plan was made.

    Attributes:
        summary: that it is, and what to do.
        drift: a sentence for each difference.
    """

    def __init__(self, migration: str, drift: tuple[str, ...]) -> None:
        self.summary = f"plan {migration} is stale, make a new one from the spec"
        self.drift = drift
        super().__init__(f"{self.summary}: {'; '.join(drift)}")


class InvalidSpec(Rejected):
    """A spec that cannot be planned.

    Attributes:
        problems: a sentence for each problem.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class InvalidPoint(Rejected):
    """A point that no store keeps as it is: NaN, infinity, an integer beyond int64."""


class SchemaMismatch(Rejected):
    """A collection exists with other vectors than it should have.

    Attributes:
        name: physical name of the collection.
        differences: a sentence for each difference; "here" is what was asked for.
    """

    def __init__(self, name: str, differences: tuple[str, ...]) -> None:
        listed = "; ".join(differences)
        super().__init__(f"collection {name!r} exists with other vectors: {listed}")
        self.name = name
        self.differences = differences
