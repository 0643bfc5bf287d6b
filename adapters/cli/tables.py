"""How plans, migrations and collections are shown to people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from domain.model.plan import Plan

Document = Mapping[str, Any]


def show_plan(console: Console, plan: Plan, *, title: str) -> None:
    """The steps of a plan, with what undoes each."""
    console.print(f"[bold]{title}[/bold]")
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("step", style="cyan", no_wrap=True)
    table.add_column("does", ratio=3)
    table.add_column("undone by", ratio=2, style="dim")
    for step in plan.steps:
        table.add_row(step.id, step.does, step.undo)
    console.print(table)
    for note in plan.notes:
        console.print(f"  note: {note}", markup=False)


def rows(console: Console, columns: Sequence[str], documents: Sequence[Document]) -> None:
    """A table of some fields of documents."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in columns:
        numeric = bool(documents) and isinstance(documents[0].get(column), int)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for document in documents:
        table.add_row(*(_text(document.get(column)) for column in columns))
    console.print(table)


def pairs(console: Console, document: Document) -> None:
    """A document as lines of name and value."""
    width = max((len(name) for name in document), default=0)
    for name, value in document.items():
        console.print(f"  {name.replace('_', ' ').ljust(width)}  {_text(value)}", markup=False)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple | set):
        return ", ".join(_text(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items()) or "-"
    return str(value)
