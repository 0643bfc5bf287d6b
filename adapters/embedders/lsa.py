"""Latent semantic analysis: an embedding model that is fitted on the text at hand.

TF-IDF weights, then a truncated singular value decomposition. It needs no download and no
network, and takes any dimension below the number of texts and of words.

Source: Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 41(6), 1990.
"""

import importlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domain.model.errors import Corrupt, NotFound, Rejected, Unavailable

FORMAT = "migration-ledger/lsa/1"
MAX_WORDS = 20_000

# Underscores separate words, so that the names in source code are read as the words they hold.
_WORD = r"[^\W_]{2,}"


class LsaModel:
    """A fitted model: words, their weights, and the directions of the space.

    Equal texts give equal bits, in any batch, process and copy of a saved model.

    Attributes:
        dimension: length of the vectors that `embed` returns.
        vocabulary: word to its row in `idf` and `components`.
        idf: `(words,)` float64, inverse document frequency of each word.
        components: `(words, dimension)` float32, how much of each direction a word has.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        idf: NDArray[np.float64],
        components: NDArray[np.float32],
    ) -> None:
        self.vocabulary = dict(vocabulary)
        self.idf = idf
        self.components = components
        self.dimension = int(components.shape[1])
        self._counter = _counter(self.vocabulary)
        self._projection = idf[:, np.newaxis] * components.astype(np.float64)

    @classmethod
    def fit(cls, texts: Sequence[str], dimension: int, seed: int = 0) -> Self:
        """Fit a model on a corpus.

        Args:
            texts: the corpus.
            dimension: length of the vectors, at least 1.
            seed: of the randomised decomposition; the same seed and texts give the same model.

        Returns:
            The fitted model.

        Raises:
            Rejected: the corpus has too few texts or words for the dimension.
            Unavailable: scikit-learn is not installed.
        """
        if dimension < 1:
            raise Rejected(f"an LSA model needs a dimension of at least 1, not {dimension}")
        counter = _counter(None)
        try:
            counts = counter.fit_transform(texts)
        except ValueError as exc:
            raise Rejected(f"no LSA model can be fitted on this corpus: {exc}") from exc
        if dimension >= min(counts.shape):
            n_texts, n_words = counts.shape
            raise Rejected(
                f"{n_texts} texts with {n_words} words are too few for a dimension of {dimension}; "
                "give more text or ask for fewer dimensions"
            )
        weigher = _sklearn("feature_extraction.text").TfidfTransformer(sublinear_tf=True)
        weights = weigher.fit_transform(counts)
        svd = _sklearn("decomposition").TruncatedSVD(dimension, random_state=seed)
        # One thread: the order in which BLAS adds depends on the number of threads.
        with importlib.import_module("threadpoolctl").threadpool_limits(1):
            svd.fit(weights)
        return cls(
            {word: int(row) for word, row in sorted(counter.vocabulary_.items())},
            np.asarray(weigher.idf_, dtype=np.float64),
            np.ascontiguousarray(svd.components_.T, dtype=np.float32),
        )

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: any number of texts, also none.

        Returns:
            `(len(texts), dimension)` float32, C-contiguous, unit length: normalised in float64
            and then cast, so that |‖v‖²-1| ≤ 1e-6. A text without a known word is all zeros.
        """
        counts = self._counter.transform(texts)
        counts.data = 1.0 + np.log(counts.data)
        vectors = np.asarray(counts @ self._projection, dtype=np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        lengths[lengths == 0.0] = 1.0
        return np.ascontiguousarray(vectors / lengths[:, np.newaxis], dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write the model to one `.npz` file, atomically. Equal models give equal bytes.

        Args:
            path: the file to write or replace; its folder is made when it is missing.
        """
        header = json.dumps(
            {"format": FORMAT, "vocabulary": self.vocabulary}, ensure_ascii=False, sort_keys=True
        )
        content = io.BytesIO()
        np.savez(
            content,
            header=np.frombuffer(header.encode(), dtype=np.uint8),
            idf=self.idf,
            components=self.components,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a model that `save` wrote. It embeds bit for bit as the saved one did.

        Args:
            path: the file.

        Returns:
            The model.

        Raises:
            NotFound: there is no such file.
            Corrupt: the file is not such a model.
            Unavailable: scikit-learn is not installed.
        """
        try:
            # numpy leaves a file open that it opened by name and cannot read.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                idf, components = arrays["idf"], arrays["components"]
            if header["format"] != FORMAT:
                raise Corrupt(f"{path} has format {header['format']!r}, not {FORMAT!r}")
            vocabulary = header["vocabulary"]
        except FileNotFoundError as exc:
            raise NotFound(f"there is no embedding model at {path}") from exc
        except OSError as exc:
            raise Rejected(f"{path} cannot be read: {exc.strerror}") from exc
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as exc:
            raise Corrupt(f"{path} is not a saved embedding model") from exc
        if not len(vocabulary) == len(idf) == len(components):
            raise Corrupt(f"{path} has a model whose words and weights differ in number")
        return cls(vocabulary, idf, components)


def _counter(vocabulary: Mapping[str, int] | None) -> Any:
    """A scikit-learn `CountVectorizer`: texts to `(texts, words)` sparse float64 counts."""
    return _sklearn("feature_extraction.text").CountVectorizer(
        token_pattern=_WORD,
        vocabulary=vocabulary,
        max_features=MAX_WORDS if vocabulary is None else None,
        dtype=np.float64,
    )


def _sklearn(name: str) -> ModuleType:
    """A module of scikit-learn, which only those who use this model install."""
    try:
        return importlib.import_module(f"sklearn.{name}")
    except ModuleNotFoundError as exc:
        raise Unavailable(
            "the LSA model needs scikit-learn: pip install 'migration-ledger[embedded]'"
        ) from exc
