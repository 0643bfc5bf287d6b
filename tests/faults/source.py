"""A copy of the product that programs run, with replacements where a bug is planted."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("domain", "projections", "adapters")


@dataclass(frozen=True)
class Replacement:
    """A piece of a file, and what stands there instead.

    Attributes:
        path: of the file, from the root of the repository.
        old: occurs exactly once in it.
        new: takes its place.
    """

    path: str
    old: str
    new: str

    def applied(self, root: Path) -> str:
        """The text of the file with the replacement.

        Raises:
            ValueError: `old` does not occur exactly once.
        """
        text = (root / self.path).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.path} has this {text.count(self.old)} times:\n{self.old}")
        return text.replace(self.old, self.new)


def copied(repository: Path, target: Path, replacements: Sequence[Replacement] = ()) -> Path:
    """Copy the product, so that later edits do not reach what runs; returns the copy.

    Raises:
        ValueError: a replacement does not fit the source.
    """
    for package in PACKAGES:
        shutil.copytree(repository / package, target / package)
    for replacement in replacements:
        (target / replacement.path).write_text(replacement.applied(target), encoding="utf-8")
    return target
