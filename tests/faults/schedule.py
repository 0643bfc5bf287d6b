"""A schedule: what goes wrong, and when, drawn from a seed. Data only."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

APPLIERS = ("applier-1", "applier-2")
WORKERS = ("relay", "flow", *APPLIERS, "coordinator", "projector")
API = "api"
WRITER = "writer"
PROGRAMS = (*WORKERS, API, WRITER)
POSTGRES, BROKER, QDRANT = "postgres", "broker", "qdrant"
SERVERS = (POSTGRES, BROKER, QDRANT)
EVERYONE = "everyone"

LINKS = (
    *((program, POSTGRES) for program in PROGRAMS),
    *((program, QDRANT) for program in ("flow", *APPLIERS, "coordinator", API)),
    (EVERYONE, BROKER),
)
"""Program and server that a proxy stands between; the broker advertises one address for all."""


class Kind(StrEnum):
    """What goes wrong."""

    KILL = "kill"
    PAUSE = "pause"
    CUT = "cut"
    HOLD_REQUESTS = "hold requests"
    HOLD_ANSWERS = "hold answers"
    REFUSE = "refuse"
    LATE = "deliver late"


DRAWN = tuple(kind for kind in Kind if kind is not Kind.LATE)


@dataclass(frozen=True)
class Moment:
    """When the n-th event of a topic is recorded, and a little later.

    Attributes:
        topic: of the event.
        count: which one, counted from when the migration was asked for.
        seconds: so much later.
    """

    topic: str
    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.topic} #{self.count} + {1000 * self.seconds:.0f} ms"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        moment: when.
        kind: SIGKILL and a new start, SIGSTOP and SIGCONT; connections that are reset, or reset
            and refused; what goes one way kept back, and delivered later; requests delivered
            after their sender was cut off.
        target: program or server; for faults of connections, the program.
        server: for faults of connections, the server that they lead to.
        seconds: how long it lasts; for `Kind.KILL`, until the new start.
    """

    moment: Moment
    kind: Kind
    target: str
    server: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        where = f"{self.target} > {self.server}" if self.server else self.target
        return f"{self.kind} {where} for {self.seconds:.1f} s at {self.moment}"


@dataclass(frozen=True)
class Profile:
    """How much work there is, and how hard it is made.

    Attributes:
        points: in each of the two shared collections.
        batch: points in a change set.
        pause: seconds of a SIGSTOP; longer than a lease.
        faults: least and most number of faults on the way there.
        patience: seconds after which a migration counts as stuck.
    """

    points: int
    batch: int
    pause: float
    faults: tuple[int, int]
    patience: float


SUITE = Profile(points=800, batch=20, pause=8.0, faults=(2, 4), patience=90.0)
NIGHTLY = Profile(points=2400, batch=30, pause=20.0, faults=(3, 8), patience=150.0)
PROFILES = {"suite": SUITE, "nightly": NIGHTLY}


@dataclass(frozen=True)
class Schedule:
    """One run of the harness.

    Attributes:
        seed: that it is drawn from.
        profile: how much work there is.
        faults: in the order in which they are drawn; each comes at its moment.
        drop: whether the migration drops the shared collections.
        back: ``completed`` to roll the migration back, ``running`` to cancel it in the middle,
            or nothing.
        again: whether a second migration follows the rollback.
    """

    seed: int
    profile: Profile
    faults: tuple[Fault, ...]
    drop: bool = False
    back: str = ""
    again: bool = False

    def lines(self) -> list[str]:
        """The schedule for people."""
        work = f"migrate {2 * self.profile.points} points{', drop' if self.drop else ''}"
        way = {"completed": ", then roll back", "running": ", cancel on the way"}
        again = ", migrate again" if self.again else ""
        return [f"{work}{way.get(self.back, '')}{again}", *map(str, self.faults)]


def schedule_of(seed: int, profile: Profile) -> Schedule:
    """The schedule of a seed; the same seed, the same schedule."""
    random = Random(f"faults/{seed}")
    back = random.choice(("", "", "completed", "running"))
    again = bool(back) and random.random() < 0.4
    faults = [
        _fault(random, profile, _moment(random, profile))
        for _ in range(random.randint(*profile.faults))
    ]
    if back:
        faults += [
            _fault(random, profile, _moment_back(random)) for _ in range(random.randint(1, 2))
        ]
    return Schedule(seed, profile, tuple(faults), random.random() < 0.5, back, again)


def _moment(random: Random, profile: Profile) -> Moment:
    """In the middle of a migration."""
    ranges = max(2, 4 * profile.points // (10 * profile.batch))
    change_sets = 4 * profile.points // profile.batch
    topic, last = random.choice(
        (
            ("flow.range-recorded", ranges),
            ("generation.change-set-recorded", change_sets),
            ("application.changes-applied", change_sets // 2),
            ("migration.step-started", 6),
        )
    )
    return Moment(topic, random.randint(1, last), round(random.uniform(0, 0.3), 3))


def _moment_back(random: Random) -> Moment:
    """On the way back."""
    topic, last = random.choice(
        (("migration.rollback-requested", 1), ("migration.step-compensated", 4))
    )
    return Moment(topic, random.randint(1, last), round(random.uniform(0, 0.3), 3))


def _fault(random: Random, profile: Profile, moment: Moment) -> Fault:
    kind = random.choices(DRAWN, weights=(6, 3, 2, 1, 1, 1))[0]
    if kind is Kind.KILL:
        target = random.choice((*PROGRAMS, *SERVERS))
        return Fault(moment, kind, target, seconds=round(random.uniform(0.1, 2.0), 2))
    if kind is Kind.PAUSE:
        return Fault(moment, kind, random.choice((*PROGRAMS, *SERVERS)), seconds=profile.pause)
    program, server = random.choice(LINKS)
    seconds = 0.0 if kind is Kind.CUT else round(random.uniform(0.5, profile.pause), 2)
    return Fault(moment, kind, program, server, seconds)


@dataclass(frozen=True)
class Aim:
    """A fault whose moment alone is drawn, to show a certain weakness.

    Attributes:
        kind: what goes wrong.
        target: program or server.
        server: for faults of connections, the server that they lead to.
        topic: whose events the moment is counted by.
        first: the first event that it may be.
        last: the last.
        after: seconds between that event and the fault, at least.
        seconds: how long it lasts; 0 for what the profile says.
    """

    kind: Kind
    target: str
    server: str = ""
    topic: str = "application.changes-applied"
    first: int = 1
    last: int = 1
    after: float = 0.0
    seconds: float = 0.0

    def drawn(self, random: Random, profile: Profile) -> Fault:
        """The fault."""
        count = random.randint(self.first, self.last)
        moment = Moment(self.topic, count, round(self.after + random.uniform(0, 0.3), 3))
        lasting = {Kind.KILL: round(random.uniform(0.1, 0.5), 2), Kind.CUT: 0.0}
        seconds = self.seconds or lasting.get(self.kind, profile.pause)
        return Fault(moment, self.kind, self.target, self.server, seconds)


def aimed(seed: int, profile: Profile, aims: Sequence[Aim]) -> Schedule:
    """A schedule whose faults aim at a weakness; without aims, that of the seed."""
    if not aims:
        return schedule_of(seed, profile)
    random = Random(f"aimed/{seed}")
    return Schedule(seed, profile, tuple(aim.drawn(random, profile) for aim in aims))
