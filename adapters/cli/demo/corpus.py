"""Real text for the demo: the docstrings and the source code of Python's standard library.

The text is that of the Python that runs, so counts differ a little between its versions. Within
one version everything is deterministic: order, ids and content.
"""

import ast
import inspect
import tokenize
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.cli.demo.sources import CODE, DOCUMENTS, NAMESPACE, SOURCES, Source
from domain.model.errors import NotFound

SHORTEST = 120
LONGEST = 1500

_SKIPPED = frozenset(
    [
        "__pycache__",
        "dist-packages",
        "idlelib",
        "lib-dynload",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
        "__phello__",
    ]
)
# Integer ids of a source are its number times this, plus the number of the chunk.
_IDS_PER_SOURCE = 1_000_000

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Chunk:
    """A piece of text that becomes one point.

    Attributes:
        id: a UUID5, or an integer for the code of functions at the top level of a module.
        source_id: id of its source.
        type: `documents` (a docstring) or `code`.
        text: at most `LONGEST` characters.
        module: dotted name of its module.
        title: dotted name of what it documents or defines.
        kind: `module`, `class` or `function`.
        line: line of the file where the definition begins, from 1.
        part: number of the piece, from 1, where a text was too long for one.
    """

    id: int | str
    source_id: str
    type: str
    text: str
    module: str
    title: str
    kind: str
    line: int
    part: int


@dataclass(frozen=True)
class Corpus:
    """All sources with their chunks.

    Attributes:
        sources: in the order of `SOURCES`.
        chunks: type to its chunks, source by source.
    """

    sources: tuple[Source, ...]
    chunks: Mapping[str, tuple[Chunk, ...]]


@dataclass(frozen=True)
class _Passage:
    """A docstring or a definition before it is cut into chunks."""

    type: str
    text: str
    name: str
    kind: str
    line: int
    numbered: bool = False


def build_corpus() -> Corpus:
    """Read the whole corpus.

    Raises:
        NotFound: this Python has no source files of its standard library.
    """
    chunks: dict[str, list[Chunk]] = {DOCUMENTS: [], CODE: []}
    for source in SOURCES:
        for chunk in stream_chunks(source):
            chunks[chunk.type].append(chunk)
    if not all(chunks.values()):
        raise NotFound(f"there are no source files of the standard library in {_library()}")
    return Corpus(SOURCES, {kind: tuple(found) for kind, found in chunks.items()})


def stream_chunks(source: Source) -> Iterator[Chunk]:
    """The chunks of one source, file by file, in the order of paths and lines.

    Args:
        source: one of `SOURCES`; only its enabled types are read.

    Yields:
        Chunks of `SHORTEST` to `LONGEST` characters.
    """
    first_number = (SOURCES.index(source) + 1) * _IDS_PER_SOURCE
    count = 0
    for file in _files(source):
        module = _module_name(file)
        for passage in _passages(file, module):
            if passage.type not in source.enabled_collections:
                continue
            for part, text in enumerate(_split(passage.text), start=1):
                count += 1
                key = f"{passage.type}:{module}:{passage.name}:{passage.line}:{part}"
                yield Chunk(
                    id=first_number + count
                    if passage.numbered
                    else str(uuid.uuid5(NAMESPACE, key)),
                    source_id=source.id,
                    type=passage.type,
                    text=text,
                    module=module,
                    title=passage.name,
                    kind=passage.kind,
                    line=passage.line,
                    part=part,
                )


def _library() -> Path:
    """Where the standard library's source files are."""
    return Path(inspect.__file__).parent


def _files(source: Source) -> Iterator[Path]:
    """The files of a source, in the order of their paths."""
    claimed = {module for other in SOURCES for module in other.modules}
    for entry in sorted(_library().iterdir()):
        name = entry.stem if entry.suffix == ".py" else entry.name
        mine = name in source.modules or (not source.modules and name not in claimed)
        if not mine or name in _SKIPPED or name.startswith(("config-", "_sysconfigdata")):
            continue
        if entry.is_dir():
            for file in sorted(entry.rglob("*.py")):
                if _SKIPPED.isdisjoint(file.relative_to(entry).parts):
                    yield file
        elif entry.suffix == ".py":
            yield entry


def _module_name(file: Path) -> str:
    parts = file.relative_to(_library()).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _passages(file: Path, module: str) -> Iterator[_Passage]:
    """Docstrings and definitions of a file, in the order of its lines."""
    with tokenize.open(file) as opened:
        text = opened.read()
    tree = ast.parse(text)
    docstring = ast.get_docstring(tree)
    if docstring:
        yield _Passage(DOCUMENTS, docstring, module, "module", 1)
    # Lines as the parser counts them: a form feed does not end one.
    yield from _definitions(tree.body, module, text.split("\n"), top_level=True)


def _definitions(
    body: list[ast.stmt], scope: str, lines: list[str], *, top_level: bool
) -> Iterator[_Passage]:
    """Classes and functions of a body. A class too long for one chunk is given method by method."""
    for node in body:
        if not isinstance(node, _Definition):
            continue
        name = f"{scope}.{node.name}"
        is_class = isinstance(node, ast.ClassDef)
        kind = "class" if is_class else "function"
        docstring = ast.get_docstring(node)
        if docstring:
            yield _Passage(DOCUMENTS, docstring, name, kind, node.lineno)
        code = _code(node, lines)
        whole = not is_class or len(code) <= LONGEST
        if whole:
            yield _Passage(CODE, code, name, kind, node.lineno, numbered=top_level and not is_class)
        if is_class:
            for passage in _definitions(node.body, name, lines, top_level=False):
                if passage.type == DOCUMENTS or not whole:
                    yield passage


def _code(node: _Definition, lines: list[str]) -> str:
    """The source of a definition with its decorators, indented as if it stood alone."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    found = lines[first - 1 : node.end_lineno]
    margin = node.col_offset
    return "\n".join(line[margin:] if line[:margin].isspace() else line for line in found)


def _split(text: str) -> Iterator[str]:
    """Cut a text at line ends into pieces of about equal length, and leave out short ones."""
    text = text.strip()
    if len(text) < SHORTEST:
        return
    pieces = -(-len(text) // LONGEST)
    target = len(text) / pieces
    piece: list[str] = []
    length = 0
    for line in text.split("\n"):
        for start in range(0, max(len(line), 1), LONGEST):
            fragment = line[start : start + LONGEST]
            if piece and (length >= target or length + len(fragment) + 1 > LONGEST):
                yield from _readable(piece)
                piece, length = [], 0
            piece.append(fragment)
            length += len(fragment) + 1
    yield from _readable(piece)


def _readable(lines: list[str]) -> Iterator[str]:
    text = "\n".join(lines).strip("\n")
    if len(text) >= SHORTEST:
        yield text
