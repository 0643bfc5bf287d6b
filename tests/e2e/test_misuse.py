"""What wrong input gets: the thing named, the way out, the right exit status, nothing else."""

from pathlib import Path

import pytest

from tests.e2e.program import run

pytestmark = pytest.mark.e2e

SPEC = """
version: 1
name: split
recipe: per-domain-collections
reason: isolation
from: {connection: default, store: default, collections: {documents: shared_docs}}
to: {store: default}
"""
DEAD = "127.0.0.1:9"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


async def test_an_embedded_stack_that_never_ran_is_unreachable(tmp_path: Path, spec: Path) -> None:
    ended = await run("plan", str(spec), "--data-dir", str(tmp_path / "none"), folder=tmp_path)
    assert ended.status == 3
    assert "migration-ledger up" in ended.err


async def test_one_url_makes_the_others_required(tmp_path: Path, spec: Path) -> None:
    ended = await run("plan", str(spec), "--qdrant-url", f"http://{DEAD}", folder=tmp_path)
    assert ended.status == 2
    for name in ("database_url", "kafka_bootstrap", "--embed"):
        assert name in ended.err


async def test_an_unreachable_database_is_named_without_its_password(
    tmp_path: Path, spec: Path
) -> None:
    ended = await run(
        *("plan", str(spec), "--database-url", f"postgresql://me:s3cret@{DEAD}/ledger"),
        *("--kafka-bootstrap", DEAD, "--qdrant-url", f"http://{DEAD}"),
        folder=tmp_path,
    )
    assert ended.status == 3
    assert DEAD in ended.err
    assert "s3cret" not in ended.out + ended.err
    assert "Traceback" not in ended.err


async def test_doctor_says_what_cannot_be_reached(tmp_path: Path) -> None:
    ended = await run(
        *("doctor", "--json", "--database-url", f"postgresql://me:s3cret@{DEAD}/ledger"),
        *("--kafka-bootstrap", DEAD, "--qdrant-url", f"http://{DEAD}"),
        folder=tmp_path,
    )
    assert ended.status == 3
    assert ended.document["database"]["reachable"] is False
    assert ended.document["database"]["embedded"] is False
    assert "s3cret" not in ended.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("unplacd: keep", "unplaced"),
        ("recipe: per-domain-colections", "per-domain-collections"),
        ("password: hunter2", "credential"),
        ("to: {store: 'postgresql://a:hunter2@h/d'}", "password"),
        ("version: 2", "version"),
        ("[", "not YAML"),
    ],
)
async def test_a_wrong_spec_names_the_problem_and_the_way_out(
    tmp_path: Path, change: str, said: str
) -> None:
    key = change.split(":", maxsplit=1)[0]
    lines = [line for line in SPEC.splitlines() if not line.startswith(f"{key}:")]
    path = tmp_path / "wrong.yaml"
    path.write_text("\n".join([*lines, change]))

    ended = await run("plan", str(path), "--no-record", folder=tmp_path)

    assert ended.status == 2
    assert said in ended.err
    assert "hunter2" not in ended.out + ended.err


async def test_a_missing_spec_is_named(tmp_path: Path) -> None:
    ended = await run("plan", "nowhere.yaml", folder=tmp_path)
    assert ended.status == 2
    assert "nowhere.yaml" in ended.err


async def test_an_unknown_setting_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "migration-ledger.toml").write_text('databse_url = "postgresql://h/d"\n')
    ended = await run("doctor", folder=tmp_path)
    assert ended.status == 2
    assert "did you mean 'database_url'" in ended.err
