"""Versions of collections as people list them."""

from typing import Any

from domain.model.recorded import Recorded

Document = dict[str, Any]

NOTED = (
    "collection",
    "store",
    "physical",
    "generation",
    "through",
    "position",
    "occasion",
    "label",
    "migration",
    "points",
    "digest",
)
"""Fields of the event that a document has, too."""


class Versions:
    """One document for each noted version, by its stream."""

    name = "versions"
    shape = 1

    def key(self, recorded: Recorded) -> str | None:
        """The version's stream."""
        return str(recorded.stream) if recorded.topic.startswith("version.") else None

    def apply(self, document: Document | None, recorded: Recorded) -> Document | None:
        """The version after the event."""
        if recorded.topic != "version.recorded":
            return document
        fields = vars(recorded.event)
        return {
            **{name: fields[name] for name in NOTED},
            "noted_at": recorded.at,
            "actor": recorded.context.actor.id,
            "reason": recorded.context.reason,
        }
