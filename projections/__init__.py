"""Read models, one a file: each applies recorded events to a view and does nothing else."""

from projections.collections import Collections
from projections.migrations import Migrations
from projections.operations import Operations
from projections.versions import Versions

PROJECTIONS = (Migrations(), Collections(), Operations(), Versions())
"""Every read model that the projector keeps."""
