"""The messages of Qdrant are loaded without the package that they are part of."""

import subprocess
import sys

import pytest
from qdrant_client import grpc as whole

from adapters.qdrant_grpc import qdrant

LOADED = "import sys, {}; print([name for name in sys.modules if name.startswith('qdrant_client')])"


def test_messages_are_those_of_the_client() -> None:
    assert qdrant.PointStruct is whole.PointStruct
    assert qdrant.UpdateStatus.Completed == whole.UpdateStatus.Completed


@pytest.mark.parametrize("program", ["adapters.cli.main", "adapters.embedded.node.__main__"])
def test_a_program_starts_without_the_client(program: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOADED.format(program)], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
