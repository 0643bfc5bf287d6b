"""What a person sees of a change that a store refuses, and does about it with one command."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from qdrant_client import models

from adapters.bootstrap import Service, open_service
from adapters.settings import load_settings
from domain.model.aggregate import Actor, Context
from domain.model.bodies import encode_body
from domain.model.generation import Generation
from domain.model.points import PointBatch, encode_dense, encode_payload, key_of
from domain.model.recorded import ChangeSetDraft
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases.tools import save
from tests.e2e.application import client
from tests.e2e.program import Ended, Up, running
from tests.integration.worlds import eventually

pytestmark = [
    pytest.mark.broker,
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("dead letters"),
]

WHO = Context(Actor("test", "test"), reason="a test")
SCHEMA = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 4, Distance.DOT)})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    async with running(tmp_path_factory.mktemp("dead letters")) as up:
        yield up


@pytest_asyncio.fixture(loop_scope="module")
async def service(up: Up) -> AsyncIterator[Service]:
    """What records what no command lets one record."""
    settings = load_settings(
        {"data_dir": str(up.data_dir)}, environment=up.settings, folder=up.folder
    )
    async with open_service(settings) as service:
        yield service


async def declare(service: Service, physical: str) -> UUID:
    made = Generation(
        collection=physical,
        store="default",
        physical=physical,
        number=1,
        schema=SCHEMA.to_json(),
        origin="created",
    )
    await save(service.ledger, made, f"create/{physical}", WHO)
    return made.id


async def record(service: Service, generation: UUID, number: int, dimension: int) -> None:
    """Record a point with this number and a vector of this dimension."""
    points = PointBatch(
        keys=[key_of(number)],
        payloads=[encode_payload({"n": number})],
        vectors={"": [encode_dense([1.0] * dimension)]},
    )
    address = await service.objects.put(encode_body(points))
    draft = ChangeSetDraft(generation, points.keys, list(points.hashes()), [address], [0], [0])
    await service.ledger.record(f"write/{uuid4()}", WHO, [draft])


async def halts(service: Service, generation: UUID, at: int) -> None:
    async def halted() -> bool:
        status = await service.applications.status(generation)
        return status is not None and status.halted_at == at

    await eventually(halted)


async def goes_on(service: Service, generation: UUID) -> None:
    async def applied() -> bool:
        status = await service.applications.status(generation)
        return status is not None and status.applied == status.recorded

    await eventually(applied)


async def succeeded(up: Up, *arguments: str) -> Ended:
    ended = await up.run(*arguments)
    assert ended.status == 0, ended.err
    return ended


async def test_a_change_that_cannot_be_mended_is_skipped(up: Up, service: Service) -> None:
    generation = await declare(service, "sick")
    await record(service, generation, 1, 4)
    await record(service, generation, 2, 3)
    await record(service, generation, 3, 4)
    await halts(service, generation, 3)

    examined = await up.run("doctor")
    assert (examined.status, "sick halts at change 3" in examined.out) == (1, True)
    (letter,) = (await succeeded(up, "dead-letter", "list", "--json")).documents
    assert (letter["physical"], letter["change"]) == ("sick", 3)
    assert "dimension" in letter["cause"]
    (shown,) = (await succeeded(up, "collection", "show", "sick", "--json")).document["generations"]
    assert (shown["applied"], shown["halted_at"]) == (2, 3)
    assert "halted" in (await succeeded(up, "collection", "show", "sick")).out

    refused = await up.run("dead-letter", "skip", "sick", "--yes")
    assert refused.status == 2
    assert "--reason" in refused.err
    await succeeded(up, "dead-letter", "skip", "sick", "--yes", "--reason", "not needed")
    await goes_on(service, generation)
    assert (await succeeded(up, "dead-letter", "list", "--json")).out == ""
    different = await up.run("verify", "sick", "--json")
    assert (different.status, different.document["missing"]) == (1, 1)
    (skipped,) = await service.ledger.read(0, 1000, topics="application.change-skipped")
    assert skipped.context.reason == "not needed"
    assert skipped.context.actor.id


async def test_a_change_whose_cause_is_mended_is_retried(up: Up, service: Service) -> None:
    qdrant = client(up.url("qdrant"))
    other = models.VectorParams(size=9, distance=models.Distance.DOT)
    await qdrant.create_collection("taken", vectors_config=other)
    generation = await declare(service, "taken")
    await record(service, generation, 1, 4)
    await halts(service, generation, 1)
    (letter,) = (await succeeded(up, "dead-letter", "list", "--json")).documents
    assert (letter["change"], letter["category"]) == (1, "SchemaMismatch")

    await qdrant.delete_collection("taken")
    await qdrant.close()
    await succeeded(up, "dead-letter", "retry", "taken", "--yes", "--reason", "it is gone")
    await goes_on(service, generation)
    await succeeded(up, "verify", "taken")
    (retried,) = await service.ledger.read(0, 1000, topics="application.change-retried")
    assert retried.context.reason == "it is gone"
