"""Commands that compare collections with the ledger, and put right what differs."""

from typing import Annotated, Any

import typer

from adapters.bootstrap import DEFAULT, Service, open_service
from adapters.cli.command import FAILED, At, Cli, Name, Reason, Store, Yes, console
from adapters.cli.following import PATIENCE_SECONDS, require_workers
from domain.model.errors import Rejected
from domain.ports import GenerationStatus
from domain.use_cases.names import physical_name
from domain.use_cases.repair import repair as repair_collection
from domain.use_cases.verify import Verification, compare, ready, verify_and_record
from domain.use_cases.verify_version import verify_version
from domain.use_cases.wait_applied import wait_applied


async def verify(
    cli: Cli,
    name: Name,
    *,
    at: At = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record/--no-record", help="Record what was found; with --at, nothing is recorded."
        ),
    ] = True,
    store: Store = DEFAULT,
    reason: Reason = "",
) -> int:
    """Compare every point of a collection with the ledger, bit for bit."""
    async with open_service(cli.settings) as service:
        if at is not None:
            found = await verify_version(service.tools, store, name, at)
        else:
            status = await _ready(service, store, name)
            if record and await _may_record(service):
                found = await verify_and_record(service.tools, status, cli.context(reason))
            else:
                found = await compare(service.tools, status)
    _show(cli, found)
    return 0 if found.equal else FAILED


async def _may_record(service: Service) -> bool:
    """Whether work goes on; else a verification is worth having, too."""
    halted = (await service.ledger.standing()).halt is not None
    if halted:
        console().print("not recorded: work is halted, see `recover`")
    return not halted


def _show(cli: Cli, found: Verification) -> None:
    if cli.json:
        cli.emit(found.to_json())
        return
    if found.equal:
        cli.console.print("equal", end="  ")
    else:
        cli.console.print("different", style="red", end="  ")
    cli.console.print(str(found), soft_wrap=True)


async def repair(
    cli: Cli,
    name: Name,
    *,
    keep_extra: Annotated[
        bool | None,
        typer.Option(
            "--keep-extra/--delete-extra",
            help="Points that the ledger does not have. By default they are deleted if the ledger "
            "made the collection, and stay in one that was there before.",
            show_default=False,
        ),
    ] = None,
    store: Store = DEFAULT,
    yes: Yes = False,
    reason: Reason = "",
) -> int:
    """Put right just the points and indexes of a collection that are not as recorded."""
    if not reason:
        raise Rejected("a repair needs --reason, which is recorded")
    context = cli.context(reason)
    async with open_service(cli.settings) as service:
        status = await _ready(service, store, name)
        before = await verify_and_record(service.tools, status, context)
        if before.equal:
            _end(cli, before, {"nothing_to_do": True})
            return 0
        if not cli.json:
            cli.console.print(str(before), soft_wrap=True)
        cli.confirm(_question(before, keep_extra=keep_extra), yes=yes)
        done = await repair_collection(service.tools, status, context, keep_extra=keep_extra)
        await _applied(service, status, done.through)
        after = await verify_and_record(service.tools, status, context)
    _end(cli, after, {**vars(done), "nothing_to_do": False})
    left = after.missing or after.changed or after.schema or (after.extra and not keep_extra)
    return FAILED if left else 0


def _question(found: Verification, *, keep_extra: bool | None) -> str:
    if not found.extra or keep_extra:
        return "Put it right?"
    if keep_extra is None:
        return "Put it right? Extra points are deleted if the ledger made the collection."
    return f"Put it right, and delete {found.extra} extra points?"


def _end(cli: Cli, found: Verification, done: dict[str, Any]) -> None:
    if cli.json:
        cli.emit({**found.to_json(), "repair": done})
        return
    if done["nothing_to_do"]:
        _say(cli, "nothing to repair")
    else:
        _say(cli, f"repaired: {done['points']} points")
        for sentence in done["schema"]:
            _say(cli, f"put right: {sentence}")
        if done["kept"]:
            _say(cli, f"extra points that stay: {done['kept']} (see --delete-extra)")
        if done["lacking"]:
            _say(cli, f"{done['lacking']} points cannot be written: {done['cause']}")
    _show(cli, found)


def _say(cli: Cli, text: str) -> None:
    cli.console.print(text, soft_wrap=True)


async def _ready(service: Service, store: str, name: str) -> GenerationStatus:
    return await ready(service.tools, store, await physical_name(service.tools, store, name))


async def _applied(service: Service, status: GenerationStatus, through: int) -> None:
    async def silence() -> None:
        await require_workers(service, {"applier"}, "The repair")

    await wait_applied(service.tools, status.generation, through, silence, PATIENCE_SECONDS)
