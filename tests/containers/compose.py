"""docker-compose.yml and the Dockerfile, as tests look at them."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
IGNORE = ROOT / ".dockerignore"

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+):-(?P<default>[^}]*)\})")
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

VERSION: str = _PROJECT["version"]
SCRIPTS: dict[str, str] = _PROJECT["scripts"]


def document() -> dict[str, Any]:
    """The file with its variables at their defaults."""
    text = COMPOSE.read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(_value, text))
    return found


def _value(found: re.Match[str]) -> str:
    return "$" if found["dollar"] else str(found["default"])


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    return {name: service for name, service in services().items() if "build" in service}


@dataclass(frozen=True)
class Instruction:
    """A line of the Dockerfile, with those that continue it.

    Attributes:
        keyword: in capitals.
        rest: what follows it.
    """

    keyword: str
    rest: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage; each begins with its FROM."""
    found: list[list[Instruction]] = []
    for instruction in _instructions():
        if instruction.keyword == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def arguments() -> dict[str, str]:
    """Build arguments in front of the first stage, and their defaults."""
    given = (one.rest.partition("=") for one in _instructions() if one.keyword == "ARG")
    return {name: value for name, _, value in given}


def _instructions() -> Iterator[Instruction]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            keyword, _, rest = line.partition(" ")
            yield Instruction(keyword.upper(), " ".join(rest.split()))


def is_sent(path: str) -> bool:
    """Whether a file is sent to the builder: the last pattern that matches it decides."""
    sent = True
    parents = [path, *(str(parent) for parent in Path(path).parents)][:-1]
    for line in IGNORE.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        names = (Path(path).parts if "**/" in line else ()) or parents
        if any(fnmatch(name, pattern) for name in names):
            sent = line.startswith("!")
    return sent
