import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from pages import ROOT, Snippet, snippets

from adapters.settings import FILE, KNOWN, PREFIX, load_settings
from domain.model.recipes import recipe_for

_PROGRAM = re.compile(r"(?<![\w/.~-])migration-ledger (?P<arguments>[^|;)\n]*)")
_VARIABLE = re.compile(rf"\b{PREFIX}(\w+)")
_TARGET = re.compile(r"(?:^|[`( ])make (\w+)", re.MULTILINE)


@pytest.mark.parametrize("snippet", snippets("yaml"), ids=str)
def test_a_spec_can_be_read(snippet: Snippet) -> None:
    recipe_for(yaml.safe_load(snippet.text))


@pytest.mark.parametrize("snippet", snippets("toml"), ids=str)
def test_a_settings_file_can_be_read(snippet: Snippet, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(snippet.text, encoding="utf-8")

    assert load_settings({}, {}, tmp_path).source is not None


@pytest.mark.parametrize("snippet", snippets("python"), ids=str)
def test_a_script_compiles(snippet: Snippet) -> None:
    compile(snippet.text, str(snippet), "exec")


@pytest.mark.parametrize("snippet", snippets("sh"), ids=str)
def test_commands_and_options_exist(snippet: Snippet, generator: ModuleType) -> None:
    known = dict(generator.commands())
    for found in _PROGRAM.finditer(snippet.text.replace("\\\n", " ")):
        words = shlex.split(found["arguments"], comments=True)
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
        assert name is not None, f"there is no command {' '.join(words)!r}"
        options = {o for p in known[name].params for o in (*p.opts, *p.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert used <= options | {"--help"}


@pytest.mark.parametrize("snippet", snippets("sh"), ids=str)
def test_variables_are_settings(snippet: Snippet) -> None:
    assert {name.lower() for name in _VARIABLE.findall(snippet.text)} <= KNOWN.keys()


@pytest.mark.parametrize("snippet", snippets("sh"), ids=str)
def test_targets_are_in_the_makefile(snippet: Snippet) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in _TARGET.findall(snippet.text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_there_are_snippets() -> None:
    counts = {language: len(snippets(language)) for language in ("yaml", "toml", "python", "sh")}

    assert all(counts.values())
