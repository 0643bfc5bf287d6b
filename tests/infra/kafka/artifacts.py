"""The broker's libraries, which Maven copies to `build/kafka` once for each state of the pom."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build" / "kafka"
LOGGING = HERE / "log4j2.properties"
JAVA_VERSION = 17
FETCH_SECONDS = 900


class CannotFetch(Exception):
    """Why Kafka cannot be run here."""


def libraries() -> Path:
    """The folder with all libraries, fetched if they are not there.

    Raises:
        CannotFetch: Java or Maven is missing, or Maven failed.
    """
    folder = _folder()
    if folder.is_dir():
        return folder
    if reason := missing():
        raise CannotFetch(reason)
    maven = shutil.which("mvn")
    assert maven is not None
    BUILD.mkdir(parents=True, exist_ok=True)
    # Made aside and moved into place, so that there is all of it or nothing.
    with tempfile.TemporaryDirectory(dir=BUILD) as aside:
        copied = subprocess.run(
            (
                *(
                    shutil.which("mvn") or "",
                    "--batch-mode",
                    "--quiet",
                    "--file",
                    str(HERE / "pom.xml"),
                ),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={aside}/libraries",
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=FETCH_SECONDS,
            text=True,
            check=False,
        )
        if copied.returncode:
            raise CannotFetch(f"Maven could not fetch Kafka:\n{copied.stdout}")
        try:
            Path(aside, "libraries").rename(folder)
        except OSError:
            # Another process was faster.
            if not folder.is_dir():
                raise
    return folder


def fetched() -> bool:
    """Whether the libraries are there."""
    return _folder().is_dir()


def missing() -> str | None:
    """What this machine lacks to fetch and to run Kafka; None if it lacks nothing."""
    java = shutil.which("java")
    if java is None:
        return "java is not installed"
    if shutil.which("mvn") is None:
        return "mvn is not installed"
    said = subprocess.run((java, "-version"), capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < JAVA_VERSION:
        return f"Kafka 4 needs Java {JAVA_VERSION}; this is {said.splitlines()[0] if said else '?'}"
    return None


def _folder() -> Path:
    pom = (HERE / "pom.xml").read_bytes()
    return BUILD / hashlib.sha256(pom).hexdigest()[:12]
