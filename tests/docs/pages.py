"""The pages of the documentation, and their fenced snippets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "first-migration.md"

_FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Snippet:
    """A fenced block.

    Attributes:
        page: the file that it is in.
        line: of its fence, from 1.
        language: after the fence.
        note: what the comment on the line before says; empty without one.
        text: between the fences.
    """

    page: Path
    line: int
    language: str
    note: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def snippets(*languages: str) -> list[Snippet]:
    return [s for page in pages() for s in snippets_of(page) if s.language in languages]


def snippets_of(page: Path) -> Iterator[Snippet]:
    content = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(content):
        line = content.count("\n", 0, found.start("language")) + 1
        yield Snippet(page, line, found["language"], found["note"] or "", found["text"])
