"""What the use cases need from the outside. Adapters implement these protocols.

Every method may raise `Unavailable`; what else it raises is said where it is.
"""

from domain.ports.applications import Applications, GenerationStatus, Lease, Recovered
from domain.ports.flow_ranges import FlowRanges, RangeClaim
from domain.ports.ledger import A, Ledger, Timelines
from domain.ports.objects import SMALL_OBJECT, Garbage, Objects, Traces
from domain.ports.publisher import CHANGES_TOPIC, EVENTS_TOPIC, EventPublisher
from domain.ports.stores import LEASE_ENDS, Hit, SourceTable, Stores, VectorStore
from domain.ports.views import Build, Document, Views
from domain.ports.workers import Cursors, Leaders, Leadership, WorkerBeat, Workers

__all__ = [
    "CHANGES_TOPIC",
    "EVENTS_TOPIC",
    "LEASE_ENDS",
    "SMALL_OBJECT",
    "A",
    "Applications",
    "Build",
    "Cursors",
    "Document",
    "EventPublisher",
    "FlowRanges",
    "Garbage",
    "GenerationStatus",
    "Hit",
    "Leaders",
    "Leadership",
    "Lease",
    "Ledger",
    "Objects",
    "RangeClaim",
    "Recovered",
    "SourceTable",
    "Stores",
    "Timelines",
    "Traces",
    "VectorStore",
    "Views",
    "WorkerBeat",
    "Workers",
]
