"""The program, typed against the servers of a world."""

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner

from adapters.cli.main import app
from tests.e2e.program import Ended
from tests.infra.qdrant import endpoint
from tests.integration.worlds import STORE, World

NOWHERE = "127.0.0.1:9"


def write_settings(world: World, qdrant_url: str, folder: Path) -> None:
    """A settings file for commands that are run in this folder, without a broker.

    Args:
        world: with the database.
        qdrant_url: of its node, which is the store of the world and the default one.
        folder: of the world, which has its large objects.
    """
    node = endpoint(qdrant_url)
    store = {"url": node.url, **({"api_key": node.api_key} if node.api_key else {})}
    lines = {
        "database_url": world.url,
        "kafka_bootstrap": NOWHERE,
        "qdrant_url": node.url,
        "objects_url": (folder / "objects").as_uri(),
        "data_dir": str(folder / "data of a test"),
    }
    text = [f"{name} = {json.dumps(value)}" for name, value in lines.items()]
    text += [f"[stores.{STORE}]", *(f"{k} = {json.dumps(v)}" for k, v in store.items())]
    (folder / "migration-ledger.toml").write_text("\n".join(text), encoding="utf-8")


async def run(*arguments: str, stdin: str | bytes = b"") -> Ended:
    """Run the program in a thread of this process, in its folder."""
    ended = await asyncio.to_thread(CliRunner().invoke, app, arguments, input=stdin)
    return Ended(ended.exit_code, ended.stdout, ended.stderr)
