"""Operations: who did what, when and why, in the order of the ledger."""

from typing import Any

from domain.model.recorded import Recorded

Document = dict[str, Any]

SHOWN = {
    "migration": ("step", "error", "cancelled"),
    "generation": ("physical", "origin", "alias", "upserts", "deletes", "captured"),
    "flow": ("kind", "number", "read"),
    "application": ("through", "points", "change", "cause"),
    "version": ("label", "physical", "points"),
}
"""Fields of an event, by kind of stream, that say what was done."""


class Operations:
    """One document for each event, by its position."""

    name = "operations"
    shape = 1

    def key(self, recorded: Recorded) -> str | None:
        """The position, so that key order is the order of the ledger."""
        return f"{recorded.position:019d}"

    def apply(self, _document: Document | None, recorded: Recorded) -> Document | None:
        """What the event says, without its bulk."""
        fields = vars(recorded.event)
        shown = SHOWN.get(recorded.topic.split(".")[0], ())
        return {
            "position": recorded.position,
            "at": recorded.at,
            "what": recorded.topic,
            "stream": str(recorded.stream),
            "version": recorded.version,
            "who": recorded.context.actor.id,
            "established": recorded.context.actor.established,
            "why": recorded.context.reason,
            "migration": recorded.context.correlation_id,
            "cause": recorded.context.causation_id,
            "detail": {name: fields[name] for name in shown if name in fields},
        }
