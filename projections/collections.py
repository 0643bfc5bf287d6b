"""Collections as people list them: one document for each generation."""

from typing import Any

from domain.model.recorded import Recorded

Document = dict[str, Any]


class Collections:
    """One document for each generation, by the id of its stream."""

    name = "collections"
    shape = 2

    def key(self, recorded: Recorded) -> str | None:
        """The generation's stream."""
        if recorded.topic.startswith("verification."):
            return str(vars(recorded.event)["generation"])
        return str(recorded.stream) if recorded.topic.startswith("generation.") else None

    def apply(self, document: Document | None, recorded: Recorded) -> Document | None:
        """The generation after the event."""
        fields = vars(recorded.event)
        at = recorded.at
        if recorded.topic == "generation.created":
            return _created(recorded, fields, at)
        if document is None:
            return None
        if recorded.topic.startswith("verification."):
            _verified(document, recorded.topic, fields, at)
            return document
        document["recorded"], document["updated_at"] = recorded.version, at
        if recorded.topic == "generation.change-set-recorded":
            document["points"] += fields["added"]
        elif recorded.topic == "generation.alias-pointed":
            document["aliases"] = sorted({*document["aliases"], fields["alias"]})
        elif recorded.topic == "generation.alias-removed":
            document["aliases"] = [a for a in document["aliases"] if a != fields["alias"]]
        elif recorded.topic == "generation.dropped":
            document["state"] = "dropped"
        elif recorded.topic == "generation.released":
            document["state"] = "released"
        return document


def _verified(document: Document, topic: str, fields: Document, at: str) -> None:
    if topic == "verification.held":
        document["verified"], document["verified_at"], document["drift"] = (
            fields["through"],
            at,
            None,
        )
    elif topic == "verification.drift-found":
        kinds = ("missing", "extra", "changed", "differences")
        document["drift"] = {**{kind: fields[kind] for kind in kinds}, "found_at": at}


def _created(recorded: Recorded, fields: Document, at: str) -> Document:
    return {
        "generation": str(recorded.stream),
        "collection": fields["collection"],
        "store": fields["store"],
        "physical": fields["physical"],
        "number": fields["number"],
        "origin": fields["origin"],
        "vectors": {
            name: {"kind": v["kind"], "dimension": v["dimension"], "distance": v["distance"]}
            for name, v in fields["schema"]["vectors"].items()
        },
        "indexes": sorted(fields["schema"]["indexes"]),
        "aliases": [],
        "points": 0,
        "state": "live",
        "verified": None,
        "verified_at": None,
        "drift": None,
        "recorded": recorded.version,
        "migration": recorded.context.correlation_id,
        "created_at": at,
        "updated_at": at,
    }
