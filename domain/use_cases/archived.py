"""What is said of a version that retention archived."""

from domain.model.errors import Rejected
from domain.ports import GenerationStatus


def refuse_archived(status: GenerationStatus, through: int) -> None:
    """Refuse to go back to a version to which nobody can.

    Raises:
        Rejected: it was archived.
    """
    if status.archived(through):
        raise Rejected(f"{ARCHIVED}; `version list {status.collection}` shows what can be rebuilt")


ARCHIVED = "retention archived this version, so its points cannot be read any more"
