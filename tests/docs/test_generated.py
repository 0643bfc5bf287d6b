from types import ModuleType

WAY_OUT = "run `python docs/generate.py`"


def test_generated_pages_are_current(generator: ModuleType) -> None:
    stale = [
        path.name
        for path, text in generator.pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]

    assert not stale, WAY_OUT


def test_generating_twice_gives_the_same(generator: ModuleType) -> None:
    assert generator.pages() == generator.pages()


def test_every_command_has_a_section(generator: ModuleType) -> None:
    page = generator.pages()[generator.REFERENCE / "cli.md"]

    missing = [name for name, _ in generator.commands() if f"\n## {name}\n" not in page]

    assert not missing


def test_events_of_every_aggregate_are_listed(generator: ModuleType) -> None:
    page = generator.pages()[generator.REFERENCE / "events.md"]

    for topic in (
        "migration.planned",
        "flow.planned",
        "flow.range-recorded",
        "application.created",
    ):
        assert f"\n### {topic}\n" in page
