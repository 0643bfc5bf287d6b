"""How text of people is shown."""

import pytest

from adapters.cli.command import console
from adapters.cli.tables import rows


@pytest.mark.parametrize("text", ["fixed [/ops]", "before [x]", "docs[a]", "[red]", ":warning:"])
def test_brackets_and_colons_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    people = console(stderr=False)
    rows(people, ["label"], [{"label": text}])
    people.print(text)
    assert capsys.readouterr().out.split("\n")[1:3] == [text, text]
