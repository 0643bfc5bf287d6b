"""What a bench found, and how it looks on a terminal and on the page.

A bench is a module with `NAME` and `async def run(*, quick: bool = False) -> Report`; `quick` takes
small sizes, to see that it works. Every number is measured by that run. Where two things are
compared, both are measured in it, in turns, and the median of the rounds counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

HEADINGS = ("", "ours", "against", "ratio", "aim", "reached")


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        name: of what was measured.
        ours: our number with its unit.
        other: what it stands against: the other's number, or the limit that is aimed at; or "".
        ratio: how many times as good ours is; above 1 is better, for times as for rates.
        aim: the ratio that is aimed at, or None.
    """

    name: str
    ours: str
    other: str = ""
    ratio: float | None = None
    aim: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the aim was reached, or None without one."""
        if self.ratio is None or self.aim is None:
            return None
        return self.ratio >= self.aim

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.name,
            self.ours,
            self.other,
            "" if self.ratio is None else f"{self.ratio:.2f}",
            "" if self.aim is None else f"≥ {self.aim:g}",
            {None: "", True: "yes", False: "no"}[self.reached],
        )


@dataclass(frozen=True)
class Report:
    """What a bench found.

    Attributes:
        title: what was measured.
        rows: numbers.
        notes: Markdown paragraphs and tables: how it was measured, and what stands behind it.
    """

    title: str
    rows: list[Row]
    notes: list[str]

    def markdown(self) -> str:
        """The report as a section of a page."""
        parts = [f"## {self.title}", table(HEADINGS, [row.cells() for row in self.rows])]
        return "\n\n".join([*parts, *self.notes])

    def show(self, console: Console) -> None:
        """Print the report."""
        found = Table(*HEADINGS, title=self.title, title_justify="left")
        for row in self.rows:
            found.add_row(*(escape(cell) for cell in row.cells()))
        console.print(found)
        for note in self.notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        console.print()


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def limit(name: str, measured: float, most: float, unit: str) -> Row:
    """A row for something that should be at most so much."""
    return Row(
        name,
        f"{measured:,.4g} {unit}",
        f"at most {most:g} {unit}",
        most / measured if measured else None,
        1.0,
    )


def least(name: str, measured: float, wanted: float, unit: str) -> Row:
    """A row for something that should be at least so much."""
    ours, other = f"{measured:,.0f} {unit}", f"at least {wanted:,.0f} {unit}"
    return Row(name, ours, other, measured / wanted, 1.0)
