"""Applications that write while migrations run, and what they find."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

from domain.model.canonical import points_of
from domain.model.migration import Migration, State
from domain.model.points import decode_payload, id_of
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.tools import Tools
from domain.use_cases.write_points import Upsert, Write, open_live
from tests.integration.builders import DOCS
from tests.integration.faults import Wrapped
from tests.integration.worlds import MARA, STORE, World

Plain = dict[int | str, dict[str, Any]]
"""Payloads by id."""


async def live_write(world: World, name: str, write: Write) -> None:
    """Write through the ledger, by the name of a collection."""
    live = await open_live(world.tools, STORE, name)
    await live.write(write, str(uuid4()), MARA)


def one(number: int, source: int, text: str) -> Upsert:
    """A write of one point of documents."""
    point = {"id": number, "payload": {"source_id": source, "text": text}, "vector": [1.0] * 8}
    return Upsert(points_of(DOCS, [point]))


async def adopted(world: World, *, filled: bool = False) -> Migration:
    """The application writes through the ledger from here on."""
    if not filled:
        await world.fill()
    spec = {
        "version": 1,
        "name": f"adoption {filled}",
        "recipe": "adopt-collections",
        "reason": "so that applications may write through the ledger",
        "store": STORE,
        "collections": [world.docs, world.code],
    }
    done = await world.run((await plan_migration(world.tools, spec, MARA)).migration)
    assert done.state is State.COMPLETED, done.error
    return done


def writing_at(world: World, step: str, write: Any) -> Tools:
    """Tools whose ledger lets an application write right before a step is completed."""
    written: list[str] = []

    async def append(command: Any) -> Any:
        ends = [e for e in command.events if getattr(e, "step", None) == step]
        if ends and "result" in vars(ends[0]) and not written:
            written.append(step)
            await write()
        return await world.ledger.append(command)

    return replace(world.tools, ledger=Wrapped(world.ledger, append=append))


async def payloads(world: World, name: str) -> Plain:
    """What a collection holds in the store."""
    found = await world.points(name)
    return {id_of(k): decode_payload(p) for k, p in zip(found.keys, found.payloads, strict=True)}
