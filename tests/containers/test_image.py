"""The Dockerfile and what it copies, as far as they can be checked without an engine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from adapters.cli.roles import ROLES
from tests.containers.compose import (
    ROOT,
    SCRIPTS,
    arguments,
    is_sent,
    ours,
    stages,
)
from tests.containers.test_compose import check_command

PREVENT = Path(__file__).parent / "without_extras.py"


def _last(keyword: str) -> str:
    """The value that an instruction has in the image."""
    return [one.rest for one in stages()[-1] if one.keyword == keyword][-1]


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as the image has it: with the packages of `runtime.txt` and no others."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MIGRATION_LEDGER_")}
    return subprocess.run(
        [sys.executable, str(PREVENT), str(ROOT / "requirements" / "runtime.txt"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**inherited, **environment},
    )


def test_base_images_are_pinned() -> None:
    for stage in stages():
        image = stage[0].rest.split()[0]
        for name, value in arguments().items():
            image = image.replace(f"${{{name}}}", value)
        assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", image)


def test_what_is_copied_is_there_and_is_sent() -> None:
    copied = [one.rest.split() for stage in stages() for one in stage if one.keyword == "COPY"]
    sources = [word for words in copied if "--from" not in words[0] for word in words[:-1]]

    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent(source), source


def test_nothing_else_is_sent() -> None:
    for path in ("secrets/database_password", ".git/config", "tests/conftest.py", ".venv/x"):
        assert not is_sent(path)
    assert not is_sent("adapters/__pycache__/logs.cpython-311.pyc")


def test_stages_that_are_named_are_used() -> None:
    named = [stage[0].rest.split(" AS ")[1] for stage in stages() if " AS " in stage[0].rest]
    text = " ".join(one.rest for stage in stages() for one in stage)

    assert all(f"--from={name}" in text for name in named)


def test_only_known_content_is_installed_and_nothing_in_the_last_stage() -> None:
    installs = [
        command
        for stage in stages()
        for one in stage
        if one.keyword == "RUN"
        for command in one.rest.split("&&")
        if "pip " in command and "venv" not in command
    ]

    assert all("--require-hashes" in one or "--no-deps" in one for one in installs)
    assert not any("pip" in one.rest or "apt" in one.rest for one in stages()[-1])


def test_it_runs_as_nobody_special() -> None:
    user = _last("USER")

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert {service["user"] for service in ours().values()} == {user}


def test_its_commands_exist() -> None:
    entrypoint = json.loads(_last("ENTRYPOINT"))
    check = json.loads(_last("HEALTHCHECK").partition(" CMD ")[2])

    assert entrypoint[0] in SCRIPTS
    check_command([*entrypoint, *json.loads(_last("CMD"))])
    check_command(check)
    assert _last("STOPSIGNAL") == "SIGTERM"


def test_the_wheel_can_be_built_from_what_is_sent(tmp_path: Path) -> None:
    context, built = tmp_path / "context", tmp_path / "dist"
    for folder, folders, files in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if is_sent(str(inside / name))]
        for name in files:
            if is_sent(str(inside / name)):
                (context / inside).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / inside / name, context / inside / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)],
        cwd=context,
        check=True,
        capture_output=True,
    )

    [wheel] = built.iterdir()
    names = ZipFile(wheel).namelist()
    assert any(name.endswith("entry_points.txt") for name in names)
    kept = {str(p.relative_to(ROOT)) for p in ROOT.glob("adapters/postgres/**/*.sql")}
    assert kept <= set(names)
    assert not any(name.startswith("tests/") for name in names)


def test_the_program_needs_none_of_the_extras(tmp_path: Path) -> None:
    """Every command is imported, and one of each kind goes as far as it can without servers."""
    nowhere = {
        "MIGRATION_LEDGER_DATA_DIR": str(tmp_path),
        "MIGRATION_LEDGER_DATABASE_URL": "postgresql://ledger@127.0.0.1:1/ledger",
        "MIGRATION_LEDGER_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "MIGRATION_LEDGER_QDRANT_URL": "http://127.0.0.1:1",
    }
    for words in (
        ("db", "upgrade"),
        ("worker", "--check", "--roles", ",".join(ROLES)),
        ("doctor", "--json"),
        ("migration", "list"),
    ):
        done = _run("migration-ledger", *words, **nowhere)
        assert done.returncode == 3, (words, done.stdout + done.stderr)
    done = _run("migration-ledger-api", "--print-openapi", **nowhere)
    assert done.returncode == 0, done.stderr


def test_the_embedded_servers_are_missed_by_name(tmp_path: Path) -> None:
    done = _run("migration-ledger", "up", "--data-dir", str(tmp_path))

    assert done.returncode == 2
    assert "embedded" in done.stderr
