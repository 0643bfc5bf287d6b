"""What the stories of the demo share: their servers, their application, and what they claim."""

import logging
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from adapters.bootstrap import DEFAULT, Service, open_service
from adapters.cli.command import FAILED, Cli
from adapters.cli.demo.knowledge_base import KnowledgeBase, load_knowledge_base
from adapters.cli.following import follow
from adapters.cli.servers import examine, show_examination
from adapters.cli.stack import Stack, running_stack
from adapters.cli.tables import rows
from adapters.logs import log_to
from domain.model.errors import Rejected
from domain.model.migration import Migration, State
from domain.model.points import Digest
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import start_migration

MARKER = "demo.yaml"
QUESTION = "open a connection to a server and read the answer"


class Story(Protocol):
    """A story of the demo."""

    teller: "Teller"

    async def tell(self, stack: Stack, service: Service) -> None:
        """Run all stages."""

    def further(self, where: str) -> Sequence[str]:
        """Commands with which one looks around afterwards; `where` is the option for the folder."""


class Teller:
    """Says what happens, and keeps what a story claims.

    Attributes:
        held: each claim, and whether it was so.
    """

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.console = cli.console
        self.held: dict[str, bool] = {}

    def stage(self, title: str) -> None:
        """Begin a stage."""
        self.console.print(f"\n{title}", style="bold")

    def say(self, text: str) -> None:
        """A line of a stage."""
        self.console.print(f"  {text}", soft_wrap=True)

    async def show_servers(self) -> None:
        """The servers that run."""
        self.stage("Servers: embedded PostgreSQL, Kafka-compatible broker and Qdrant node")
        show_examination(self.cli, await examine(self.cli.settings))

    async def load(self, service: Service) -> KnowledgeBase:
        """An application's table and shared collections of real text."""
        self.stage("A knowledge base of the standard library: docstrings and source code")
        qdrant = urlsplit(service.settings.qdrant_url or "")
        with self.bars() as progress:
            knowledge = await load_knowledge_base(
                service.settings.database_url or "",
                qdrant.hostname or "",
                qdrant.port or 0,
                progress,
                models_folder=service.settings.data_dir / "models",
            )
        points = sum(knowledge.points.values())
        self.console.print(
            f"  {points:,} points of {len(knowledge.sources)} sources in "
            f"{len(knowledge.collections)} shared collections, "
            f"{sum(knowledge.seconds.values()):.1f} s"
        )
        kinds = [
            {
                "type": kind,
                "collection": name,
                "dimension": knowledge.dimensions[kind],
                "points": knowledge.points[kind],
            }
            for kind, name in knowledge.collections.items()
        ]
        rows(self.console, ["type", "collection", "dimension", "points"], kinds)
        return knowledge

    @contextmanager
    def bars(self) -> Iterator[Any]:
        """Bars of stages: called with stage, done and total."""
        bar = Progress(
            TextColumn("  {task.description:<22}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        with bar:
            yield progress

    async def digests(self, service: Service, names: Sequence[str]) -> dict[str, str]:
        """Digests of collections as the store has them."""
        found = {}
        for name in names:
            digest = Digest()
            async for page in service.stores.store(DEFAULT).scan(name):
                for key, point_hash in zip(page.keys, page.hashes(), strict=True):
                    digest.add(key, point_hash)
            found[name] = digest.hexdigest()
        return found

    async def migrate(self, service: Service, spec: dict[str, Any]) -> Migration:
        """Plan a spec and apply it, to the end."""
        context = self.cli.context(spec["reason"])
        planned = await plan_migration(service.tools, spec, context)
        started = await start_migration(service.tools, planned.migration, context)
        status = await follow(self.cli, service, started, log=None, wanted=State.COMPLETED)
        if status:
            raise Rejected(f"{spec['name']} did not complete; see the log of the demo")
        return planned.migration


async def tell(cli: Cli, story: type[Any]) -> int:
    """Tell a story in a folder of its own; returns the exit status."""
    folder = cli.settings.data_dir / "demo"
    _clear(folder)
    settings = replace(
        cli.settings,
        data_dir=folder,
        database_url=None,
        kafka_bootstrap=None,
        qdrant_url=None,
        objects_url=None,
    )
    log_to(folder / "demo.log", logging.INFO)
    teller = Teller(Cli(settings, cli.json))
    told: Story = story(teller)
    began = time.monotonic()
    async with running_stack(settings) as stack, open_service(settings) as service:
        await told.tell(stack, service)
    cli.console.print()
    for claim, true in teller.held.items():
        cli.console.print(f"  {'yes' if true else 'NO '}  {claim}", style=None if true else "red")
    cli.console.print(f"\n{time.monotonic() - began:.0f} s in all. To look around by yourself:")
    where = f"--data-dir {shlex.quote(str(folder))}"
    for command in ("up", *told.further(str(folder))):
        cli.console.print(f"  {sys.argv[0]} {command} {where}", soft_wrap=True)
    return 0 if all(teller.held.values()) else FAILED


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left.

    Raises:
        Rejected: the folder was not made by a demo.
    """
    if folder.exists():
        if not (folder / MARKER).exists() and any(folder.iterdir()):
            raise Rejected(f"{folder} is not a demo's folder; name another with --data-dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
