"""The `migration-ledger` program: every command by its name."""

import typer

from adapters.cli import (
    archive,
    collections,
    data,
    drill,
    erasing,
    log,
    migrations,
    packing,
    points,
    recover,
    retention,
    servers,
    verifying,
    versions,
    views,
)
from adapters.cli.command import register
from adapters.cli.demo.stories import demo
from adapters.python_gc import collect_less

app = typer.Typer(
    name="migration-ledger",
    help="Plan, apply, verify and undo migrations of vector stores, with a ledger of every step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
migration = typer.Typer(help="List, show and cancel migrations.", no_args_is_help=True)
collection = typer.Typer(help="List, show and adopt collections.", no_args_is_help=True)
version = typer.Typer(help="Versions of collections.", no_args_is_help=True)
live_points = typer.Typer(help="Write points.", no_args_is_help=True)
dead_letter = typer.Typer(help="Changes that a store refused.", no_args_is_help=True)
projection = typer.Typer(help="Read models.", no_args_is_help=True)
retain = typer.Typer(help="How long one can go back to versions.", no_args_is_help=True)
ledger_log = typer.Typer(help="The ledger's own events.", no_args_is_help=True)
archives = typer.Typer(help="The ledger as a folder of files.", no_args_is_help=True)
database = typer.Typer(help="The ledger's database.", no_args_is_help=True)

for group, name in (
    (migration, "migration"),
    (collection, "collection"),
    (version, "version"),
    (live_points, "points"),
    (dead_letter, "dead-letter"),
    (projection, "projection"),
    (retain, "retention"),
    (ledger_log, "log"),
    (archives, "archive"),
    (database, "db"),
):
    app.add_typer(group, name=name)

for group, name, function in (
    (app, "up", servers.up),
    (app, "demo", demo),
    (app, "doctor", servers.doctor),
    (app, "plan", migrations.plan),
    (app, "apply", migrations.apply),
    (app, "watch", migrations.watch),
    (app, "rollback", migrations.roll_back),
    (app, "verify", verifying.verify),
    (app, "repair", verifying.repair),
    (app, "pack", packing.pack),
    (app, "rebuild", collections.rebuild),
    (app, "restore", collections.restore),
    (app, "search", data.search),
    (app, "erase", erasing.erase),
    (app, "recover", recover.recover),
    (app, "drill", drill.drill),
    (app, "worker", servers.worker),
    (migration, "list", migrations.list_migrations),
    (migration, "show", migrations.show),
    (migration, "cancel", migrations.cancel),
    (collection, "list", data.list_collections),
    (collection, "show", data.show_collection),
    (collection, "adopt", collections.adopt),
    (version, "list", versions.list_versions),
    (version, "tag", versions.tag),
    (version, "diff", versions.diff),
    (live_points, "upsert", points.upsert),
    (live_points, "delete", points.delete),
    (live_points, "set-payload", points.set_payload),
    (dead_letter, "list", data.list_dead_letters),
    (dead_letter, "retry", data.retry),
    (dead_letter, "skip", data.skip),
    (projection, "list", views.list_projections),
    (projection, "rebuild", views.rebuild_projection),
    (retain, "show", retention.show),
    (retain, "set", retention.set_policy),
    (retain, "remove", retention.remove_policy),
    (retain, "hold", retention.hold),
    (retain, "lift", retention.lift),
    (retain, "apply", retention.apply),
    (ledger_log, "verify", log.verify),
    (ledger_log, "events", log.events),
    (archives, "export", archive.export),
    (archives, "import", archive.import_),
    (archives, "verify", archive.verify),
    (database, "upgrade", servers.db_upgrade),
):
    register(group, name, function)


def main() -> None:
    """Run the program."""
    collect_less()
    app()
