# ruff: noqa: INP001, ISC004  # docs is a folder of pages; their paragraphs are long strings
"""Write the generated pages of `docs/reference`: `python docs/generate.py`.

The pages say what the code says: commands from the Typer application, settings from `KNOWN`, specs
from their models, events and errors from their classes. `--check` writes nothing and exits with 1
when a page is stale.
"""

import argparse
import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import typer

import adapters
import domain
import projections
from adapters.cli import command
from adapters.cli.main import app
from adapters.http.problems import KINDS
from adapters.settings import FILE, KNOWN, PREFIX, Settings
from adapters.settings import SECRETS as IN_FILES
from adapters.tables.sources import COLUMNS
from domain.model.aggregate import LedgerAggregate
from domain.model.errors import LedgerError
from domain.model.recipes import RECIPES

REFERENCE = Path(__file__).parent / "reference"
HEADER = "<!-- Written by docs/generate.py. Change the code, then run it again. -->\n\n"
PROGRAM = "migration-ledger"
SECRETS = ("password", "api_key")

STATUSES = (
    (0, "Done; or there was nothing to do."),
    (command.FAILED, "It failed, or a comparison found differences, or you answered no."),
    (command.MISUSED, "The request is wrong: an option, a spec, a name that does not exist."),
    (command.UNREACHABLE, "A server does not answer, or no worker runs."),
    (command.INTERRUPTED, "Interrupted by ctrl-C. Workers go on with what was recorded."),
)

Rows = Sequence[Sequence[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or say which ones are stale; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, report stale pages")
    check = parser.parse_args(arguments).check
    stale = 0
    for path, text in pages().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        sys.stdout.write(f"{'stale' if check else 'written'}: {path.name}\n")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    _import_everything()
    found = {
        "cli.md": _cli(),
        "settings.md": _settings(),
        "events.md": _events(),
        "errors.md": _errors(),
    }
    for name, recipe in sorted(RECIPES.items()):
        schema = recipe.spec.model_json_schema(by_alias=True)
        file = f"spec-{name}.schema.json"
        found[f"spec-{name}.md"] = _spec(name, recipe, schema, file)
        found[file] = json.dumps(schema, indent=2, sort_keys=True) + "\n"
    return {REFERENCE / name: text for name, text in found.items()}


def _import_everything() -> None:
    """Classes register with their base when they are imported."""
    for package in (domain, projections, adapters):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def _table(head: Sequence[str], rows: Rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(title: str, *parts: str) -> str:
    return f"# {title}\n\n{HEADER}" + "\n".join(parts).rstrip("\n") + "\n"


# The command line.


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the program by its full name, such as `migration list`."""
    yield from _walk("", typer.main.get_command(app))


def _walk(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, found in group.commands.items():
        full = f"{prefix} {name}".strip()
        if hasattr(found, "commands"):
            yield from _walk(full, found)
        else:
            yield full, found


def _cli() -> str:
    shared = {flag.replace("_", "-") for flag in command.FLAGS} | {"json", "help"}
    listed = list(commands())
    example = dict(listed)["doctor"]
    parts = [
        f"Every command of `{PROGRAM}`. `{PROGRAM} COMMAND --help` says the same.\n",
        "Commands that change something show what they are about to do and ask. `--yes` answers; "
        "without a terminal, or with `--json`, it is required. What each exit status means is in "
        "[errors](errors.md#exit-statuses).\n",
        "## Options of every command\n",
        "The connections are [settings](settings.md); an option wins over an environment variable "
        "and over the file.\n",
        _options([p for p in example.params if _kebab(p) in shared]),
    ]
    for name, found in listed:
        usage = [PROGRAM, name, *_usage(found)]
        parts += [
            f"## {name}\n",
            f"{_sentence(found.help)}\n",
            f"```text\n{' '.join(usage)}\n```\n",
        ]
        own = [p for p in found.params if p.param_type_name == "option" and _kebab(p) not in shared]
        arguments = _arguments(found)
        if arguments:
            parts.append(_table(["argument", "what it is"], [_argument(p) for p in arguments]))
        if own:
            parts.append(_options(own))
    return _page("Commands", *parts)


def _usage(found: Any) -> list[str]:
    return [_argument(p)[0].strip("`") for p in _arguments(found)]


def _arguments(found: Any) -> list[Any]:
    return [p for p in found.params if p.param_type_name == "argument"]


def _argument(parameter: Any) -> list[str]:
    return [f"`{parameter.metavar or parameter.name.upper()}`", parameter.help or ""]


def _kebab(parameter: Any) -> str:
    return str(parameter.name).replace("_", "-")


def _options(options: Sequence[Any]) -> str:
    rows = []
    for option in options:
        names = [*option.opts, *option.secondary_opts]
        default = option.default if isinstance(option.default, str | int) else ""
        shown = "" if isinstance(default, bool) or default == "" else f" Default: `{default}`."
        what = f"{_sentence(option.help)}{shown}".strip()
        rows.append([", ".join(f"`{name}`" for name in names), what])
    return _table(["option", "what it does"], rows)


def _sentence(text: str | None) -> str:
    text = " ".join((text or "").split())
    return text if not text or text.endswith((".", "…")) else f"{text}."


# Settings.


def _settings() -> str:
    defaults = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
    rows = []
    for name, meaning in KNOWN.items():
        default = defaults.get(name)
        rows.append(
            [
                f"`{name}`",
                f"`{PREFIX}{name.upper()}`",
                f"`--{name.replace('_', '-')}`" if name in command.FLAGS else "",
                meaning + (" (secret)" if name.endswith(SECRETS) else ""),
                f"`{default}`" if default is not None else "",
            ]
        )
    return _page(
        "Settings",
        f"A setting is read from the file `{FILE}` in the current folder, then from an environment "
        "variable, then from an option; the last one wins. An unknown name is refused with the "
        "nearest known one.\n",
        "A secret may be in a file of its own, as container platforms have it: a variable with "
        f"`_FILE` behind its name says where, for {_listed(IN_FILES)}.\n",
        _table(["in the file", "variable", "option", "what it is", "default"], rows),
        "Without `data_dir`, the folder is that of your user's application data. Without any of "
        "`database_url`, `kafka_bootstrap` and `qdrant_url`, all three servers are embedded. With "
        "one of them set, the others must be set too, or be named in `embed`. Without "
        "`objects_url`, objects are files in `objects` below the data folder. Without `actor`, "
        "what you do is recorded under your user and host name.\n",
        "## Sections of the file\n",
        _table(
            ["section", "keys", "what it names"],
            [
                ["`[connections.NAME]`", "`url`", "a PostgreSQL database of an application"],
                ["`[stores.NAME]`", "`url`, `api_key`", "a vector store: its gRPC endpoint"],
                ["`[embedders.NAME]`", "`lsa`", "a text model for `search`: the file of it"],
            ],
        ),
        "The store `default` is the one of `qdrant_url`, and the connection `default` is the "
        "database of the ledger, unless a section of that name says otherwise.",
    )


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


# Specs.


def _spec(name: str, recipe: Any, schema: Mapping[str, Any], file: str) -> str:
    module = _without_row_ids(inspect.getdoc(sys.modules[type(recipe).__module__]) or "")
    definitions = schema.get("$defs", {})
    parts = [
        f"{module}\n",
        "A spec is YAML or JSON. Unknown keys are refused, values are not converted, and nothing "
        f"that looks like a credential may be in it. The JSON Schema is [{file}]({file}).\n",
        "## Keys\n",
        _keys(schema),
    ]
    if recipe.name == "per-domain-collections":
        rows = [[f"`{column}`", meaning] for column, meaning in COLUMNS.items()]
        parts += ["## The table\n", "The table must have these columns, and may have others.\n"]
        parts.append(_table(["column", "what it holds"], rows))
    for key, section in _sections(schema, definitions):
        parts += [f"## {key}\n", f"{_sentence(section.get('description'))}\n", _keys(section)]
    return _page(f"Spec of {name}", *parts)


def _without_row_ids(text: str) -> str:
    """A docstring may name a row of the requirements, which readers do not have."""
    return re.sub(r"\s*\((?:S|C)\d[\d.]*\)", "", text)


def _sections(
    schema: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in schema["properties"].items():
        if "$ref" in value:
            yield key, definitions[value["$ref"].rpartition("/")[2]]


def _keys(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        [
            f"`{key}`",
            "see below" if "$ref" in value else _type(value),
            "required" if key in required else _default(value),
            value.get("description", ""),
        ]
        for key, value in schema["properties"].items()
    ]
    return _table(["key", "type", "default", "what it says"], rows)


def _type(value: Mapping[str, Any]) -> str:
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " or ".join(f"`{choice}`" for choice in value["enum"])
    kind = str(value["type"])
    if kind == "array":
        return f"list of {_type(value['items'])}"
    if kind == "object":
        return f"mapping to {_type(value['additionalProperties'])}"
    low = value.get("minimum", value.get("exclusiveMinimum"))
    high = value.get("maximum")
    if low is not None and high is not None:
        return f"{kind}, {low} to {high}"
    return kind


def _default(value: Mapping[str, Any]) -> str:
    if "$ref" in value or "default" not in value:
        return ""
    return f"`{json.dumps(value['default'])}`"


# Events.


_KAFKA = """\
Attributes are headers with `ce_` in front. Besides those of the standard there are `ce_position`,
`ce_streamversion`, `ce_hash` (of the event in the chain), `ce_timeline`, `ce_actor`,
`ce_actorestablished`, `ce_reason`, `ce_correlationid` and `ce_causationid`. `ce_source` is
`urn:migration-ledger:` and the id of the ledger.

A message may come more than once. Those of one stream come in order. Remember the greatest position
that you have handled in each partition, with its hash, and drop what is at or below it.

`ce_timeline` grows when somebody has run `recover` after the ledger lost events. Everything is then
published again from position 1, and events at a position that you know may be others. So:

- drop messages with a lower `ce_timeline` than the greatest that you have seen;
- when it grows, begin anew: forget the positions that you remembered. What you derived up to the
  `position` of the event `timeline.started` with that `number` is still right; what came from later
  positions never happened. If you cannot tell the one from the other, derive all of it again;
- `ce_id` is the same whenever an event is published again. Two events of different timelines can
  have the same `ce_id`; their `ce_hash` differ.
"""


def _events() -> str:
    parts = [
        "Every event that the ledger records, by the aggregate whose stream it is in. An event is "
        "recorded for ever; its fields never change meaning. Fields are plain JSON.\n",
        "Each event also carries its position in the ledger, its stream and the version in it, the "
        "time of the database, who did it and how that is known (`actor`, `actor_established`), "
        "why (`reason`), what it belongs to (`correlation_id`, a migration) and what caused it "
        "(`causation_id`). It is chained to the event before it: see [the hash of an event]"
        "(event-hash.md). On Kafka it is a CloudEvent on `ledger.events`, with type "
        "`migration-ledger.` and the topic below, and its stream as key.\n",
        "No event carries a payload or a vector: they name objects by SHA-256.\n",
        "## On Kafka\n",
        _KAFKA,
    ]
    for aggregate in sorted(_aggregates(), key=lambda found: found.TOPIC):
        parts += [f"## {aggregate.TOPIC}\n", f"{_summary(aggregate)}\n"]
        for event in _events_of(aggregate):
            parts += [f"### {event.TOPIC}\n", f"{_summary(event)}\n"]
            described = _attributes(event)
            rows = [
                [f"`{name}`", f"`{_annotation(kind)}`", described.get(name, "")]
                for name, kind in inspect.get_annotations(event).items()
            ]
            if rows:
                parts.append(_table(["field", "type", "what it is"], rows))
    return _page("Events", *parts)


def _aggregates() -> list[Any]:
    return [
        found
        for found in LedgerAggregate.__subclasses__()
        if found.__module__.startswith("domain.model.")
    ]


def _events_of(aggregate: Any) -> Iterator[Any]:
    """The classes as they are written; `eventsourcing` derives others from them."""
    for found in vars(aggregate).values():
        if inspect.isclass(found) and issubclass(found, LedgerAggregate.Event):
            yield from [kind for kind in found.__mro__ if "TOPIC" in vars(kind)][:1]


def _annotation(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)


def _docstring(found: Any) -> tuple[str, str]:
    text = inspect.cleandoc(vars(found).get("__doc__") or "")
    summary, _, described = text.partition("Attributes:")
    return summary.strip(), described


def _summary(found: Any) -> str:
    return _code(_docstring(found)[0])


def _code(text: str) -> str:
    return text.replace("``", "`")


def _attributes(found: Any) -> dict[str, str]:
    """The descriptions of a Google-style `Attributes:` section, by name."""
    described: dict[str, str] = {}
    name = ""
    for line in _docstring(found)[1].splitlines():
        start = re.fullmatch(r" {4}(\w+): (.*)", line)
        if start:
            name, text = start.groups()
            described[name] = _code(text)
        elif line.strip() and name:
            described[name] += " " + _code(line.strip())
    return described


# Errors.


def _errors() -> str:
    rows = []
    for depth, kind in _descendants(LedgerError, 0):
        status, problem = _http(kind)
        name = "&nbsp;" * 4 * depth + f"`{kind.__name__}`"
        rows.append([name, _summary(kind), str(_exit_status(kind)), status, problem])
    return _page(
        "Errors",
        "An error says what is wrong and, where there is one, the way out. Its class says what a "
        "caller can do: mend the request (`Rejected`), try again (`Conflict`, `Unavailable`), or "
        "stop and look (`Corrupt`).\n",
        "## Exit statuses\n",
        _table(["status", "meaning"], [[str(number), text] for number, text in STATUSES]),
        "With `--json`, an error is one object on standard output: `error` (the class), `message`, "
        "and for a spec `problems`, a sentence for each.\n",
        "A defect of the program itself exits with 1 and says in which file its details are.\n",
        "## Classes\n",
        "A class further to the right is a kind of the one above it. HTTP answers are problem "
        "details (RFC 9457) whose `type` is `urn:migration-ledger:problem:` and the kind.\n",
        _table(["class", "what it means", "exit", "HTTP", "kind"], rows),
        "A step of a migration that fails is not an error of the command that watches it: the "
        "class is recorded as `category` in `migration.step-failed`, and the command exits with "
        f"{command.FAILED}.",
    )


def _descendants(kind: type[LedgerError], depth: int) -> Iterator[tuple[int, type[LedgerError]]]:
    yield depth, kind
    children = [
        child
        for child in kind.__subclasses__()
        if child.__module__.split(".")[0] in {"domain", "projections", "adapters"}
    ]
    for child in sorted(children, key=lambda found: found.__name__):
        yield from _descendants(child, depth + 1)


def _exit_status(kind: type[LedgerError]) -> int:
    return command._status(kind.__new__(kind))  # noqa: SLF001  # the mapping is what is documented


def _http(kind: type[LedgerError]) -> tuple[str, str]:
    for base, status, name, _ in KINDS:
        if issubclass(kind, base):
            return str(int(status)), f"`{name}`"
    return "", ""


if __name__ == "__main__":
    sys.exit(main())
