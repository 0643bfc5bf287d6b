"""Run a console script with the packages of a lock file and no others.

``python without_extras.py LOCK SCRIPT ARGUMENT...``: what other packages bring cannot be imported,
as if they were not installed.
"""

import importlib.abc
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

ROOT = Path(__file__).parents[2]


class Absent(importlib.abc.MetaPathFinder):
    """Finds nothing of packages that are not in the lock file."""

    def __init__(self, locked: set[str]) -> None:
        self._absent = {
            module
            for module, names in importlib.metadata.packages_distributions().items()
            if not {_normal(name) for name in names} & {*locked, "migration-ledger"}
        }

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in self._absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(lock: str, script: str, *arguments: str) -> None:
    """Run a script of the project as it is installed."""
    locked = re.findall(r"^([\w.-]+)==", Path(lock).read_text(encoding="utf-8"), re.MULTILINE)
    sys.meta_path.insert(0, Absent({_normal(name) for name in locked}))
    sys.path.insert(0, str(ROOT))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sys.argv = [script, *arguments]
    sys.exit(resolve_name(project["scripts"][script])())


if __name__ == "__main__":
    main(*sys.argv[1:])
