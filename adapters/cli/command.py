"""What every command shares: its settings, its output, and what errors become."""

import asyncio
import errno
import inspect
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console

from adapters.archive.errors import Damaged
from adapters.cli.background import still_waits
from adapters.logs import log_to
from adapters.settings import KNOWN, Settings, load_settings
from domain.model.aggregate import Context
from domain.model.errors import (
    Halted,
    InvalidSpec,
    LedgerError,
    PlanStale,
    Rejected,
    Unavailable,
)

FAILED, MISUSED, UNREACHABLE = 1, 2, 3
INTERRUPTED = 130
PIPED_WIDTH = 120
"""Columns of tables that go to a file or another program."""

Json = Annotated[
    bool, typer.Option("--json", help="Write JSON to standard output, one object a line.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded with every event.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Collection, by name or alias.")]
Store = Annotated[str, typer.Option(help="Vector store connection.")]
At = Annotated[
    str | None,
    typer.Option(metavar="VERSION", help="A version: label, position, or ISO 8601 time."),
]
ExitCode = Annotated[
    bool,
    typer.Option("--exit-code", help="Exit with 1 if there is something to do, or a difference."),
]

FLAGS = ("data_dir", "database_url", "kafka_bootstrap", "qdrant_url", "objects_url", "embed")
"""Settings that every command takes as options."""


class _People(Console):
    """Ends as any output does when nobody reads on, and not with a failure of its own."""

    def on_broken_pipe(self) -> None:
        """Raise what `_run` expects."""
        raise BrokenPipeError


def console(*, stderr: bool = True, soft_wrap: bool = False) -> Console:
    """Where people read. Text is shown as it is: names and labels may have brackets in them."""
    return _People(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


@dataclass
class Cli:
    """What a command works with.

    Attributes:
        settings: from flags, environment and file.
        json: whether standard output is for programs.
        console: where people read; standard error when standard output is for programs.
    """

    settings: Settings
    json: bool
    console: Console = field(init=False)

    def __post_init__(self) -> None:
        self.console = console(stderr=self.json)
        if not self.console.is_terminal:
            self.console.width = PIPED_WIDTH

    def emit(self, document: Any) -> None:
        """Write a line of JSON to standard output."""
        sys.stdout.buffer.write(orjson.dumps(document, default=str) + b"\n")
        sys.stdout.buffer.flush()

    def context(self, reason: str = "") -> Context:
        """Who does this, and why."""
        return Context(self.settings.actor, reason=reason, causation_id="command line")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something changes.

        Raises:
            Rejected: nobody is there to ask, and `--yes` is missing.
            typer.Exit: the answer is no.
        """
        if yes:
            return
        if self.json or not sys.stdin.isatty():
            raise Rejected("this changes something: say --yes to confirm it without a question")
        if not asked(question):
            raise typer.Exit(FAILED)


def asked(question: str) -> bool:
    """What somebody at a terminal answers.

    Raises:
        typer.Abort: they press Ctrl-C or Ctrl-D.
    """
    with ctrl_c_ends():
        return typer.confirm(question)


@contextmanager
def ctrl_c_ends() -> Iterator[None]:
    """Let Ctrl-C end what waits for input; asyncio would keep the first one for its next turn."""
    if threading.current_thread() is not threading.main_thread():  # it gets no signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


Command = Callable[..., Awaitable[int | None]]


def register(app: typer.Typer, name: str, function: Command) -> None:
    """Add a command: an async function whose first parameter is a `Cli`.

    Its other parameters become options and arguments; those for connections and `--json` are
    added. What it returns is the exit status.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @wraps(function)
    def run(**values: Any) -> None:
        flags = {flag: values.pop(flag) for flag in FLAGS}
        json = values.pop("json")
        status = _run(function, flags, values, json=json)
        raise typer.Exit(status)

    parameters = [*own, *(_flag(flag) for flag in FLAGS), _parameter("json", Json, default=False)]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    )
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__
    app.command(name)(run)


def _parameter(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _flag(name: str) -> inspect.Parameter:
    option = typer.Option(
        "--" + name.replace("_", "-"),
        help=f"{KNOWN[name][:1].upper()}{KNOWN[name][1:]}.",
        rich_help_panel="Connections",
        show_default=False,
    )
    return _parameter(name, Annotated[str | None, option], default=None)


def _run(
    function: Command, flags: Mapping[str, str | None], values: Mapping[str, Any], *, json: bool
) -> int:
    log_to(None, logging.WARNING)
    try:
        cli = Cli(load_settings(flags), json)
        return asyncio.run(_awaited(function(cli, **values))) or 0
    except BrokenPipeError:  # who reads our output has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except Exception as error:  # noqa: BLE001  # no stack trace at a user
        return _failed(error, flags, json=json)


def _failed(error: Exception, flags: Mapping[str, str | None], *, json: bool) -> int:
    """Say what went wrong; what is no error of the ledger is a defect of ours, or a full disk."""
    if isinstance(error, LedgerError):
        return report(error, json=json)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        where = error.filename or flags["data_dir"] or "the data directory"
        full = Unavailable(f"{where}: {error.strerror}; make room there and try again")
        return report(full, json=json)
    return _report_defect(error)


def _interrupted() -> int:
    console().print("interrupted; what was recorded goes on under its workers")
    if still_waits():
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    return INTERRUPTED


def _report_defect(error: Exception) -> int:
    """Keep the stack trace of a defect in a file, and say where it is."""
    with NamedTemporaryFile(
        "w", prefix="migration-ledger-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(error, file=file)
    people = console(soft_wrap=True)
    people.print("defect:", style="red", end=" ")
    people.print(
        f"{type(error).__name__}. This should not happen; the details are in {file.name}. What was "
        "recorded is safe: try again, and report it."
    )
    return FAILED


async def _awaited(work: Awaitable[int | None]) -> int | None:
    """The result; a failure inside task groups is raised as itself."""
    try:
        return await work
    except BaseExceptionGroup as group:
        _raise_first(group)


def _raise_first(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        _raise_first(first)
    raise first


def report(error: LedgerError, *, json: bool) -> int:
    """Say what went wrong; returns the exit status."""
    status = _status(error)
    if json:
        document: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, InvalidSpec | Damaged):
            document["problems"] = list(error.problems)
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
        return status
    people = console(soft_wrap=True)
    head, listed = _listed(error)
    if len(listed) > 1:
        people.print("error:", style="red", end=" ")
        people.print(f"{head}:")
        for problem in listed:
            people.print(f"  - {problem}")
    else:
        people.print("error:", style="red", end=" ")
        people.print(str(error))
    return status


def _listed(error: LedgerError) -> tuple[str, tuple[str, ...]]:
    """What is wrong as a whole, and one by one."""
    if isinstance(error, InvalidSpec | Damaged):
        return f"{len(error.problems)} problems, nothing was changed", error.problems
    if isinstance(error, PlanStale):
        return error.summary, error.drift
    return "", (str(error),)


def _status(error: LedgerError) -> int:
    if isinstance(error, Rejected):
        return MISUSED
    away = isinstance(error, Unavailable) and not isinstance(error, Halted)
    return UNREACHABLE if away else FAILED
