"""What specs say of recipes that copy collections and hand over to the copies."""

from pydantic import Field

from domain.model.durations import duration
from domain.model.errors import Rejected
from domain.model.spec import Section, Spec


class CopiedFrom(Section):
    """Where collections are that are copied."""

    store: str = Field(description="Vector store connection.")
    observed: bool = Field(
        default=False,
        description="Applications write to the collections in the store, not through the ledger: "
        "what they write until the cut-over is copied, and what comes later is named.",
    )


class CopySpec(Spec):
    """Spec of a recipe that copies collections and hands over to the copies."""

    warm_for: str = Field(
        default="0s",
        description="How long the old collections get what is written to the new ones, such as "
        "12h or 7d, so that a rollback is at once.",
    )


def warm_seconds(spec: CopySpec) -> int:
    """For how long, in seconds.

    Raises:
        Rejected: it is no duration.
    """
    return int(duration(spec.warm_for).total_seconds())


def warm_problems(spec: CopySpec, dropping: str | None) -> list[str]:
    """What is wrong with it.

    Args:
        spec: that says it.
        dropping: what of the spec drops the old collections, such as ``after is drop``, or None.
    """
    try:
        seconds = warm_seconds(spec)
    except Rejected as error:
        return [f"warm_for is {error}"]
    if seconds and dropping is not None:
        return [f"{dropping}, and warm_for keeps what that drops; leave one of them out"]
    return []
