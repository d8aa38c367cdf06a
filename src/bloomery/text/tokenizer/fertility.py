"""Fertility: how many tokens different tokenizers make of the same documents, language by language."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.tokenizer.tokenizer import Tokenizer

WORD = r"[\pL\pM\pN]+"
OVERALL = "overall"
MEASURES = {
    "tokens_per_word": "Tokens per word (a word: letters, marks and digits in a row; where a script puts no blanks, that is a phrase)",
    "characters_per_token": "Characters per token", "bytes_per_token": "Bytes of UTF-8 per token", "unknown": "Share of unknown tokens, in %",
}  # fmt: skip


@dataclass
class Size:
    """How much text there is in a language."""

    documents: int = 0
    words: int = 0
    characters: int = 0
    bytes: int = 0


@dataclass
class Tokens:
    """What a tokenizer makes of it: tokens, and how many of them are unknown."""

    tokens: int = 0
    unknown: int = 0

    def measures(self, size: Size) -> dict[str, float]:
        """The four ratios by name, see `MEASURES`; 0 where there is nothing to divide by."""
        tokens, words = self.tokens or 1, size.words or 1
        ratios = (self.tokens / words, size.characters / tokens, size.bytes / tokens, 100 * self.unknown / tokens)
        return {name: round(ratio, 4) for name, ratio in zip(MEASURES, ratios, strict=True)}


@dataclass
class Comparison:
    """Sizes by language, and tokens by language and tokenizer; `str` of it is a table to read."""

    tokenizers: tuple[str, ...]
    languages: dict[str, Size] = field(default_factory=dict)
    tokens: dict[tuple[str, str], Tokens] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """All figures as JSON-able data: {"overall": {tokenizer: {measure: …}}, "languages": {language: {"size": …, "tokenizers": …}}}."""
        by_language = {language: {"size": asdict(size), "tokenizers": self._row(language)} for language, size in sorted(self.languages.items())}
        return {OVERALL: self._row(OVERALL), "languages": by_language}

    def __str__(self) -> str:
        shown = [name for name in MEASURES if name != "unknown" or any(count.unknown for count in self.tokens.values())]
        return "\n\n".join(self._table(measure) for measure in shown)

    def _row(self, language: str) -> dict[str, dict[str, float]]:
        size = self.languages[language] if language != OVERALL else _sum(Size, self.languages.values())
        rows = self.languages if language == OVERALL else (language,)
        return {name: _sum(Tokens, (self.tokens[row, name] for row in rows)).measures(size) for name in self.tokenizers}

    def _table(self, measure: str) -> str:
        wide = max([len(language) for language in (*self.languages, OVERALL)])
        lines = [MEASURES[measure], " " * wide + "".join(f"  {name:>8}" for name in self.tokenizers)]
        for language in (*sorted(self.languages), OVERALL):
            row = self._row(language)
            lines.append(f"{language:<{wide}}" + "".join(f"  {row[name][measure]:>{max(8, len(name))}.2f}" for name in self.tokenizers))
        return "\n".join(lines)


def compare(tokenizers: Mapping[str, Tokenizer], documents: Iterable[pa.RecordBatch]) -> Comparison:
    """Encodes documents with several tokenizers.

    Args:
        tokenizers: by the names that they are to have in the table.
        documents: batches with the columns `text`, `source` and `meta`; a document's language is `language` in its `meta`, or its source.
    """
    found = Comparison(tuple(tokenizers))
    for batch in documents:
        texts = batch.column("text")
        names, rows = np.unique(np.array(languages(batch), dtype=object), return_inverse=True)
        parts = (pc.count_substring_regex(texts, WORD), pc.utf8_length(texts), pc.binary_length(texts))
        sizes = [np.bincount(rows, part.to_numpy(zero_copy_only=False), len(names)) for part in parts]
        for name, documents_of, *size in zip(names, np.bincount(rows, minlength=len(names)), *sizes, strict=True):
            _add(found.languages.setdefault(name, Size()), documents_of, *size)
        for tokenizer_name, tokenizer in tokenizers.items():
            ids = tokenizer.encode_arrays(texts.to_pylist())
            tokens = np.bincount(rows, [len(i) for i in ids], len(names))
            unknown = np.bincount(rows, [np.count_nonzero(i == tokenizer.unknown) for i in ids], len(names))
            for name, *counts in zip(names, tokens, unknown, strict=True):
                _add(found.tokens.setdefault((name, tokenizer_name), Tokens()), *counts)
    return found


def languages(batch: pa.RecordBatch) -> list[str]:
    """The language of each document: `language` in its `meta`, or else its source."""
    named = []
    for source, meta in zip(batch.column("source").to_pylist(), batch.column("meta").to_pylist(), strict=True):
        known = json.loads(meta).get("language") if meta and '"language"' in meta else None
        named.append(str(known or source))
    return named


def _add(counts: Size | Tokens, *more: float) -> None:
    for name, value in zip(vars(counts), more, strict=True):
        setattr(counts, name, getattr(counts, name) + int(value))


def _sum(kind: Any, parts: Iterable[Any]) -> Any:
    total = kind()
    for part in parts:
        _add(total, *vars(part).values())
    return total
