"""`NgramModel`: how probable texts are, word by word, by counts of word sequences.

    ngram.json               order, words, how many kinds of words were not worth counting
    vocabulary.npy           the hashes of the known words, ascending (uint64); word i has the id 3 + i
    keys-2.npy …             the sequences of n words, ascending: row of the first n - 1 in the table before, times ids, plus the last id
    probabilities-1.npy …    of the last word after the others, smoothed (float32), a row for each sequence
    backoffs-1.npy …         what is left for words never seen after the sequence (float32)

The tables are mapped, not read, so that processes of one machine share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from bloomery.core.errors import ArtifactError
from bloomery.store.files import read_json
from bloomery.text.learned.features import Words, portions, words

INDEX = "ngram.json"
UNKNOWN, START, END, FIRST_WORD = 0, 1, 2, 3


@dataclass(frozen=True)
class NgramModel:
    """An interpolated Kneser–Ney model over hashed words.

        p(w | u) = probability of the sequence u w where it was counted, else backoff(u) · p(w | u without its first word)

    A text is one sequence from <s> to </s>. All words that are not known share one id, whose probability is divided evenly among the kinds
    of words that it stood for in training: a text of rubbish is improbable, not ordinary.

    Attributes:
        vocabulary: (words,) uint64, ascending.
        keys: for each order from 2: (sequences,) uint64, ascending.
        probabilities: for each order from 1: (sequences,) float32.
        backoffs: for each order from 1 to the last but one: (sequences,) float32.
        unknown_kinds: different words that the unknown one stands for.

    Source: Chen & Goodman (1998), TR-10-98; Heafield et al. (2013), ACL; perplexity as a filter: Wenzek et al. (2020), arXiv:1911.00359;
    departures: words and hashes of them, no sentencepiece; a text is one sequence, not one for each line.
    """

    vocabulary: np.ndarray
    keys: tuple[np.ndarray, ...]
    probabilities: tuple[np.ndarray, ...]
    backoffs: tuple[np.ndarray, ...]
    unknown_kinds: int

    @classmethod
    def load(cls, folder: Path) -> NgramModel:
        """Maps the tables of a `TrainNgram`'s artifact.

        Raises:
            ArtifactError: a file is missing or is not what it should be.
        """
        index = read_json(folder / INDEX)
        try:
            order, unknown_kinds = int(index["order"]), int(index["unknown_kinds"])

            def tables(name: str, first: int, last: int) -> tuple[np.ndarray, ...]:
                return tuple(np.load(folder / f"{name}-{n}.npy", mmap_mode="r", allow_pickle=False) for n in range(first, last + 1))

            vocabulary = np.load(folder / "vocabulary.npy", allow_pickle=False)
            return cls(vocabulary, tables("keys", 2, order), tables("probabilities", 1, order), tables("backoffs", 1, order - 1), unknown_kinds)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder} does not hold an n-gram model ({error}); delete the folder and run again") from None

    def log_probabilities(self, texts: Words) -> np.ndarray:
        """(words + texts,) float64: ln p of each word of each text after the words before it, and of each text's end."""
        ids = framed(texts, self.ids(texts.hashes))
        size = np.uint64(FIRST_WORD + len(self.vocabulary))
        logs = _log(self.probabilities[0][ids])
        logs[ids == UNKNOWN] -= np.log(max(self.unknown_kinds, 1))
        rows = ids  # of the longest sequences so far, by the place of their last word; -1 where never counted
        for keys, probabilities, backoffs in zip(self.keys, self.probabilities[1:], self.backoffs, strict=True):
            before = np.concatenate([[-1], rows[:-1]])
            rows = np.full(len(ids), -1)
            known = np.flatnonzero(before >= 0)
            found = find(keys, before[known].astype(np.uint64) * size + ids[known].astype(np.uint64))
            rows[known] = found
            seen, new = found >= 0, found < 0
            unknown = ids[known[seen]] == UNKNOWN
            logs[known[seen]] = _log(probabilities[found[seen]]) - unknown * np.log(max(self.unknown_kinds, 1))
            logs[known[new]] += _log(backoffs[before[known[new]]])
        return logs[ids != START]

    def perplexity(self, texts: pa.Array) -> np.ndarray:
        """(texts,) float64: exp(−mean ln p) over the words and the end of each text; NaN for a text without words."""
        return np.concatenate([np.empty(0), *map(self._perplexity, portions(texts))])

    def _perplexity(self, texts: pa.Array) -> np.ndarray:
        found = words(texts, digits=False)
        lengths = np.diff(found.offsets)
        rows = np.repeat(np.arange(len(texts)), lengths + 1)
        total = np.bincount(rows, self.log_probabilities(found), len(texts))
        return np.where(lengths > 0, np.exp(-total / (lengths + 1)), np.nan)

    def ids(self, hashes: np.ndarray) -> np.ndarray:
        """(words,) int64: the ids of words."""
        found = find(self.vocabulary, hashes)
        return np.where(found < 0, UNKNOWN, found + FIRST_WORD)


@lru_cache(maxsize=4)
def load_ngram(folder: Path) -> NgramModel:
    """The model in a folder, mapped once per process."""
    return NgramModel.load(folder)


def find(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(values,) int64: where each value is in an ascending table; -1 where it is not."""
    if not len(table):
        return np.full(len(values), -1)
    at = np.searchsorted(table, values)
    return np.where(table[np.minimum(at, len(table) - 1)] == values, at, -1)


def framed(texts: Words, ids: np.ndarray) -> np.ndarray:
    """(words + 2 · texts,) of the type of ids: the words of each text between START and END."""
    row = np.arange(len(texts.offsets) - 1)
    out = np.empty(len(ids) + 2 * len(row), ids.dtype)
    out[texts.offsets[:-1] + 2 * row] = START
    out[texts.offsets[1:] + 2 * row + 1] = END
    out[np.arange(len(ids)) + 2 * texts.rows() + 1] = ids
    return out


def _log(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # START is never drawn: its probability is 0
        return np.log(probabilities.astype(np.float64))
