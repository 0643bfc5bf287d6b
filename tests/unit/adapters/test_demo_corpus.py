"""The demo's text: enough of it, of readable size, with titles and gaps worth migrating."""

import inspect
import queue
import re
import textwrap
import uuid
from collections import Counter

import pytest

from adapters.cli.demo import corpus as corpus_module
from adapters.cli.demo.corpus import LONGEST, SHORTEST, Corpus, build_corpus, stream_chunks
from adapters.cli.demo.sources import SOURCES
from domain.model.errors import NotFound
from domain.model.names import default_name


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build_corpus()


def test_there_are_at_least_8000_points(corpus: Corpus) -> None:
    assert len(corpus.chunks["documents"]) + len(corpus.chunks["code"]) >= 8000


def test_every_source_has_text_of_each_enabled_type(corpus: Corpus) -> None:
    found = {(chunk.source_id, kind) for kind, chunks in corpus.chunks.items() for chunk in chunks}

    assert found == {
        (source.id, kind) for source in corpus.sources for kind in source.enabled_collections
    }


def test_chunks_are_of_readable_size(corpus: Corpus) -> None:
    for chunks in corpus.chunks.values():
        assert all(SHORTEST <= len(chunk.text) <= LONGEST for chunk in chunks)


def test_text_can_be_stored_as_utf_8_and_in_postgresql(corpus: Corpus) -> None:
    for chunks in corpus.chunks.values():
        for chunk in chunks:
            assert "\0" not in chunk.text
            assert chunk.text.encode().decode() == chunk.text


def test_ids_are_unique_and_of_both_kinds_in_code(corpus: Corpus) -> None:
    for kind, kinds in (("documents", {str}), ("code", {int, str})):
        ids = [chunk.id for chunk in corpus.chunks[kind]]
        assert len(set(ids)) == len(ids)
        assert {type(point_id) for point_id in ids} == kinds
        assert all(uuid.UUID(i).version == 5 for i in ids if isinstance(i, str))


def test_a_second_build_is_equal(corpus: Corpus) -> None:
    assert build_corpus() == corpus


def test_a_streamed_source_is_its_part_of_the_corpus(corpus: Corpus) -> None:
    source = corpus.sources[0]
    whole = [c for chunks in corpus.chunks.values() for c in chunks if c.source_id == source.id]

    streamed = list(stream_chunks(source))

    assert sorted(streamed, key=lambda c: c.type) == sorted(whole, key=lambda c: c.type)


def test_no_module_belongs_to_two_sources() -> None:
    modules = Counter(module for source in SOURCES for module in source.modules)

    assert max(modules.values()) == 1


def test_names_by_the_rule_are_distinct() -> None:
    names = [default_name(source.title, "documents") for source in SOURCES]

    assert len(SOURCES) > 12
    assert len(set(names)) == len(names)
    assert "Reseau_Internet_documents" in names


def test_stored_names_are_distinct_from_each_other_and_from_the_rule_of_others() -> None:
    used = [
        source.collection_names.get(kind, default_name(source.title, kind))
        for source in SOURCES
        for kind in source.enabled_collections
    ]

    assert len(set(used)) == len(used)


def test_stored_names_have_gaps_and_exceptions() -> None:
    enabled = [(source, kind) for source in SOURCES for kind in source.enabled_collections]
    missing = {source.title for source, kind in enabled if kind not in source.collection_names}
    exceptions = {
        source.collection_names[kind]
        for source, kind in enabled
        if source.collection_names.get(kind, default_name(source.title, kind))
        != default_name(source.title, kind)
    }

    assert sum(not source.collection_names for source in SOURCES) == 2
    assert len(missing) == 4
    assert exceptions == {"DataTypes_Docs", "dataTypes_CODE", "Legacy-Serialisation.code"}
    assert sum(len(source.enabled_collections) == 1 for source in SOURCES) == 2


def test_a_long_class_is_given_by_method_and_a_short_one_whole(corpus: Corpus) -> None:
    titles = Counter(chunk.title for chunk in corpus.chunks["code"])

    assert titles["json.encoder.JSONEncoder"] == 0
    assert titles["json.encoder.JSONEncoder.iterencode"] == 2
    assert titles["contextlib.ContextDecorator"] == 1
    assert titles["contextlib.ContextDecorator._recreate_cm"] == 0


def test_code_is_what_stands_in_the_file(corpus: Corpus) -> None:
    chunk = next(c for c in corpus.chunks["code"] if c.title == "textwrap.indent")
    assert chunk.text.startswith("def indent(")
    assert chunk.text.splitlines()[-1].startswith("    return ")

    method = next(c for c in corpus.chunks["code"] if c.title == "queue.Queue.put")
    assert method.text == textwrap.dedent(inspect.getsource(queue.Queue.put)).strip()


def test_a_python_without_source_files_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setattr(corpus_module, "_library", lambda: empty)

    with pytest.raises(NotFound, match=re.escape(str(empty))):
        build_corpus()
