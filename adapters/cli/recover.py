"""The command that puts everything right after the ledger was restored from an older backup."""

import os
import socket
from typing import Annotated, Any
from uuid import uuid4

import typer

from adapters.bootstrap import Service, open_service
from adapters.cli.command import FAILED, Cli, Reason, Yes
from adapters.cli.tables import rows
from domain.ports import EventPublisher, GenerationStatus
from domain.use_cases.look_around import Situation
from domain.use_cases.recover import Outcome, Ports, Recovery
from domain.use_cases.recover import recover as run_recovery
from domain.use_cases.relay import TopicTaken
from domain.use_cases.verify import Verification, compare

KeepExtra = Annotated[
    bool,
    typer.Option("--keep-extra", help="Leave points that the ledger does not have where they are."),
]


async def recover(
    cli: Cli, *, keep_extra: KeepExtra = False, reason: Reason = "", yes: Yes = False
) -> int:
    """Begin a new timeline after the ledger lost events, and put right what is derived from it."""
    async with (
        open_service(cli.settings, recovering=True) as service,
        service.publisher() as publisher,
    ):
        ports = ports_of(service, publisher)
        situation = await ports.look_around()
        if not cli.json:
            _show(cli, situation, await _compared(ports, situation), keep_extra=keep_extra)
        if situation.nothing_to_do:
            if cli.json:
                cli.emit(_document(Recovery(situation)))
            return FAILED if situation.taken else 0
        cli.confirm("Recover?", yes=yes)

        def tell(outcome: Outcome) -> None:
            if not cli.json:
                cli.console.print(f"  {_line(outcome)}", soft_wrap=True)

        recovery = await run_recovery(
            ports,
            recovering(),
            cli.context(reason),
            tell,
            keep_extra=keep_extra,
        )
    if cli.json:
        cli.emit(_document(recovery))
    else:
        _show_end(cli, recovery)
    return 0 if recovery.complete and not situation.taken else FAILED


def ports_of(service: Service, publisher: EventPublisher) -> Ports:
    """What a recovery of this service works with."""
    return Ports(
        service.tools,
        service.cursors,
        service.views,
        service.leaders,
        service.timelines,
        publisher,
    )


def recovering() -> str:
    """A name for this process, as the holder of leases."""
    return f"recover-{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"


async def _compared(
    ports: Ports, situation: Situation
) -> list[tuple[GenerationStatus, Verification | None]]:
    """What would be put right in each collection; None where the collection is gone."""
    tools = ports.tools
    found: list[tuple[GenerationStatus, Verification | None]] = []
    for status in situation.wrong:
        there = status.physical in await tools.stores.store(status.store).collections()
        compared = await compare(tools, status, status.recorded) if there else None
        found.append((status, compared))
    return found


def _show(
    cli: Cli,
    situation: Situation,
    compared: list[tuple[GenerationStatus, Verification | None]],
    *,
    keep_extra: bool,
) -> None:
    """What was found, and what is going to be done."""
    say = cli.console.print
    for witness in situation.taken:
        say(str(TopicTaken(witness.where, witness.ledger)), soft_wrap=True)
    if situation.nothing_to_do:
        say("nothing to recover: nobody has seen another history than the ledger's")
        return
    say(f"The ledger ends at position {situation.head.position}. Found:")
    for finding in situation.findings:
        say(f"  {finding.says}", soft_wrap=True)
    if situation.begins_timeline:
        say(f"Timeline {situation.highest + 1} begins here; all topics are published again.")
    elif situation.unfinished:
        say(f"The recovery that began timeline {situation.unfinished.number} goes on.")
    if compared:
        say("Collections that are put right:")
        rows(
            cli.console,
            ["collection", "store", "missing", "changed", "extra"],
            [_counts(status, verification) for status, verification in compared],
        )
        extra = "are left" if keep_extra else "are deleted from collections that the ledger made"
        say(f"  missing and changed points are written from the ledger; extra ones {extra}")
        say("  points of adopted collections are only compared")
    for (store, alias), physical in situation.aliases.items():
        say(f"  alias {alias} of store {store} is pointed to {physical}")
    say(f"{len(situation.others)} other collections are compared, and left as they are.")
    for name in situation.unknown:
        say(f"  not known to the ledger, and left: {name}", soft_wrap=True)


def _counts(status: GenerationStatus, compared: Verification | None) -> dict[str, Any]:
    return {
        "collection": status.physical,
        "store": status.store,
        "missing": compared.missing if compared else status.points,
        "changed": compared.changed if compared else 0,
        "extra": compared.extra if compared else 0,
    }


def _line(outcome: Outcome) -> str:
    """What became of a collection."""
    done, verification = outcome.recovered, outcome.verification
    if done is not None and done.lacking:
        return (
            f"{outcome.status.physical}: {done.lacking} points could not be written: {done.cause}. "
            "It halts; bring back what is missing, then run `recover` again"
        )
    said = str(verification)
    if done is None or not outcome.equal:
        return f"{said}{'; left as it is' if not outcome.equal else ''}"
    return f"{said}; {'made again' if done.made else 'put right'}"


def _show_end(cli: Cli, recovery: Recovery) -> None:
    if recovery.timeline is not None:
        cli.console.print(f"timeline {recovery.timeline}; work goes on")
    else:
        cli.console.print("work goes on")
    for problem in recovery.refused:
        cli.console.print(f"  {problem}", soft_wrap=True)
    if not recovery.complete:
        cli.console.print("not everything could be put right; see above", style="red")


def _document(recovery: Recovery) -> dict[str, Any]:
    situation = recovery.situation
    return {
        "nothing_to_do": situation.nothing_to_do,
        "timeline": recovery.timeline,
        "position": situation.head.position,
        "found": [finding.to_json() for finding in situation.findings],
        "collections": [
            {
                "collection": outcome.status.physical,
                "store": outcome.status.store,
                "equal": outcome.equal,
                "digest": outcome.verification.digest if outcome.verification else None,
                "put_right": vars(outcome.recovered) if outcome.recovered else None,
            }
            for outcome in recovery.outcomes
        ],
        "aliases": [
            {"alias": alias, "store": store, "collection": physical}
            for (store, alias), physical in situation.aliases.items()
        ],
        "refused": recovery.refused,
        "unknown": list(situation.unknown),
        "topics_of_others": [vars(witness) for witness in situation.taken],
        "complete": recovery.complete,
    }
