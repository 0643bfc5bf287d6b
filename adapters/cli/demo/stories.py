"""The command that tells the stories of the demo."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from adapters.cli.command import Cli
from adapters.cli.demo.split import Split
from adapters.cli.demo.telling import tell
from adapters.cli.demo.time_travel import TimeTravel


class Name(StrEnum):
    """What is told."""

    SPLIT = "split"
    TIME_TRAVEL = "time-travel"


STORIES: dict[Name, type[Any]] = {Name.SPLIT: Split, Name.TIME_TRAVEL: TimeTravel}


async def demo(
    cli: Cli,
    story: Annotated[Name, typer.Argument(help="Which story.")] = Name.SPLIT,
) -> int:
    """Show what it does, on real text and embedded servers, in about a minute.

    `split` is the main job: split shared collections, survive a kill, verify, search, roll back.
    `time-travel` finds a flipped bit, rebuilds a lost collection, goes back and forth, and names an
    edited byte of the ledger.
    """
    return await tell(cli, STORIES[story])
