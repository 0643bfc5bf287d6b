"""Point ids: unsigned 64-bit integers and UUIDs."""

from collections.abc import Iterable
from uuid import UUID

from adapters.embedded.node.errors import wrong_input
from adapters.qdrant_grpc import qdrant

PointId = int | UUID


def id_from_proto(proto: qdrant.PointId) -> PointId:
    """An id as the engine takes it.

    Raises:
        RefusalError: it is empty, or text that is no UUID.
    """
    match proto.WhichOneof("point_id_options"):
        case "num":
            return proto.num
        case "uuid":
            try:
                return UUID(proto.uuid)
            except ValueError as exc:
                raise wrong_input(f"Unable to parse UUID: {proto.uuid}") from exc
        case _:
            raise wrong_input("a point has no id")


def ids_from_proto(protos: Iterable[qdrant.PointId]) -> list[PointId]:
    """Ids in their order, each once."""
    return list(dict.fromkeys(id_from_proto(proto) for proto in protos))


def id_to_proto(point_id: object) -> qdrant.PointId:
    """An id as it goes over the wire."""
    if isinstance(point_id, int):
        return qdrant.PointId(num=point_id)
    return qdrant.PointId(uuid=str(point_id))
