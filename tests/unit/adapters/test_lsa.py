"""The LSA model: unit length, equal bits everywhere, and readable refusals."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapters.embedders.lsa import LsaModel
from domain.model.errors import Corrupt, NotFound, Rejected, Unavailable

TEXTS = [
    f"{verb} a {noun} over the {place}, part {number}"
    for number, (verb, noun, place) in enumerate(
        (verb, noun, place)
        for verb in ("send", "receive", "compress", "parse_quickly")
        for noun in ("socket", "archive", "calendar", "thread", "naïveté")
        for place in ("network", "file system", "terminal")
    )
]

SAVE_AND_PRINT = """
import sys, pathlib
from adapters.embedders.lsa import LsaModel
model = LsaModel.fit(sys.argv[2:], 8)
model.save(pathlib.Path(sys.argv[1]))
print(model.embed(sys.argv[2:]).tobytes().hex())
"""


@pytest.fixture(scope="module")
def model() -> LsaModel:
    return LsaModel.fit(TEXTS, 8)


def test_vectors_are_contiguous_float32_of_unit_length(model: LsaModel) -> None:
    vectors = model.embed(TEXTS)

    assert vectors.shape == (len(TEXTS), 8)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    squared = np.sum(vectors * vectors, axis=1, dtype=np.float32)
    assert np.max(np.abs(squared - np.float32(1))) <= 1e-6


def test_a_text_without_a_known_word_is_zero_and_stays_zero(model: LsaModel) -> None:
    vectors = model.embed(["zyzzyva", "", "a socket"])

    assert not vectors[:2].any()
    assert vectors[2].any()


def test_no_texts_give_no_rows(model: LsaModel) -> None:
    assert model.embed([]).shape == (0, 8)


def test_words_that_occur_together_are_near(model: LsaModel) -> None:
    query, socket, calendar = model.embed(["SOCKET", "send a socket", "send a calendar"])

    assert query @ socket > query @ calendar


def test_names_in_code_are_read_as_their_words(model: LsaModel) -> None:
    first, second = model.embed(["send_socket", "send socket"])

    assert first.tobytes() == second.tobytes()


def test_bits_do_not_depend_on_the_batch(model: LsaModel) -> None:
    together = model.embed(TEXTS)
    alone = np.concatenate([model.embed([text]) for text in TEXTS])

    assert together.tobytes() == alone.tobytes()


def test_a_loaded_model_embeds_bit_for_bit(model: LsaModel, tmp_path: Path) -> None:
    path = tmp_path / "models" / "documents.npz"
    model.save(path)

    loaded = LsaModel.load(path)

    assert loaded.dimension == 8
    assert loaded.embed(TEXTS).tobytes() == model.embed(TEXTS).tobytes()


def test_a_new_process_fits_the_same_model(model: LsaModel, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine.npz", tmp_path / "theirs.npz"
    model.save(mine)

    printed = subprocess.run(
        [sys.executable, "-c", SAVE_AND_PRINT, str(theirs), *TEXTS],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert bytes.fromhex(printed) == model.embed(TEXTS).tobytes()
    assert theirs.read_bytes() == mine.read_bytes()


def test_the_seed_is_part_of_the_model(model: LsaModel) -> None:
    other = LsaModel.fit(TEXTS, 8, seed=1)

    assert other.embed(TEXTS).tobytes() != model.embed(TEXTS).tobytes()


@pytest.mark.parametrize(
    ("texts", "dimension", "message"),
    [
        (["a socket", "a thread"], 2, "too few"),
        ([], 2, "no LSA model"),
        (["- -"], 2, "no LSA model"),
        (TEXTS, 0, "at least 1"),
    ],
)
def test_a_corpus_too_small_for_the_dimension_is_refused(
    texts: list[str], dimension: int, message: str
) -> None:
    with pytest.raises(Rejected, match=message):
        LsaModel.fit(texts, dimension)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"absent\.npz"):
        LsaModel.load(tmp_path / "absent.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken"])
def test_a_damaged_file_is_corrupt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(content)

    with pytest.raises(Corrupt, match=r"model\.npz"):
        LsaModel.load(path)


class Trap:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.touched,)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    path, touched = tmp_path / "model.npz", tmp_path / "touched"
    np.savez(path, header=np.array([Trap(touched)], dtype=object))

    with pytest.raises(Corrupt):
        LsaModel.load(path)

    assert not touched.exists()


def test_words_and_weights_must_agree(model: LsaModel, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    LsaModel(model.vocabulary, model.idf, model.components).save(path)
    with np.load(path) as arrays:
        header, idf, components = arrays["header"], arrays["idf"], arrays["components"]
    np.savez(path, header=header, idf=idf[:-1], components=components)

    with pytest.raises(Corrupt, match="differ in number"):
        LsaModel.load(path)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    header = np.frombuffer(b'{"format": "lsa/0", "vocabulary": {}}', dtype=np.uint8)
    np.savez(path, header=header, idf=np.zeros(0), components=np.zeros((0, 2)))

    with pytest.raises(Corrupt, match="lsa/0"):
        LsaModel.load(path)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)

    with pytest.raises(Unavailable, match=r"pip install 'migration-ledger\[embedded\]'"):
        LsaModel.fit(TEXTS, 8)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="cannot be read"):
        LsaModel.load(tmp_path)
