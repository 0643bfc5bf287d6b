"""Read models, one a file: each applies recorded events to a view and does nothing else."""

from projections.collections import Collections
from projections.migrations import Migrations
from projections.operations import Operations

PROJECTIONS = (Migrations(), Collections(), Operations())
"""Every read model that the projector keeps."""
