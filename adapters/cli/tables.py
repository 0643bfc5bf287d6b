"""How plans, migrations and collections are shown to people."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters.cli.command import Cli
from domain.model.plan import Plan, StepKind

Document = Mapping[str, Any]

WHOLE = {"id", "state", "planned_at", "step"}
"""Columns that are never broken over lines: people copy them."""

NAMES_SHOWN = 40


def show_plan(console: Console, plan: Plan, *, title: str) -> None:
    """The steps of a plan, with what undoes each."""
    console.print(title, style="bold")
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("step", style="cyan", no_wrap=True)
    table.add_column("does", ratio=3)
    table.add_column("undone by", ratio=2, style="dim")
    for step in plan.steps:
        table.add_row(step.id, step.does, step.undo)
    console.print(table)
    counts = {name: _total(value) for name, value in plan.estimates.items()}
    shown = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items())
    console.print(f"  {shown}")
    names = [
        target["collection"]
        for step in plan.steps
        if step.kind is StepKind.CREATE
        for target in step.params["collections"]
    ]
    if names:
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        console.print(f"  collections: {', '.join(names[:NAMES_SHOWN])}{more}")
    for note in plan.notes:
        console.print(f"  note: {note}")


def _total(value: Any) -> int:
    """An estimate as one number: itself, the sum of a mapping, or the length of a list."""
    if isinstance(value, Mapping):
        return sum(value.values())
    return len(value) if isinstance(value, list) else int(value)


def rows(console: Console, columns: Sequence[str], documents: Sequence[Document]) -> None:
    """A table of some fields of documents."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in columns:
        numeric = bool(documents) and isinstance(documents[0].get(column), int)
        table.add_column(
            column.replace("_", " "),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=column in WHOLE,
        )
    for document in documents:
        table.add_row(*(_text(document.get(column)) for column in columns))
    console.print(table)


def pairs(console: Console, document: Document) -> None:
    """A document as lines of name and value."""
    width = max((len(name) for name in document), default=0)
    for name, value in document.items():
        console.print(f"  {name.replace('_', ' ').ljust(width)}  {_text(value)}")


def say(cli: Cli, document: dict[str, Any]) -> None:
    """A document, for people or as JSON."""
    if cli.json:
        cli.emit(document)
    else:
        pairs(cli.console, document)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple | set):
        return ", ".join(_text(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items()) or "-"
    return str(value)
