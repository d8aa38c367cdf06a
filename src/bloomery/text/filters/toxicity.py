"""`Toxicity`: the share of listed words."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bloomery.core.errors import ConfigError
from bloomery.store.files import sha256_of
from bloomery.text.filters.filter import Filter, Measure, Verdicts
from bloomery.text.filters.words import Words, judged, occurrences, share, spans_at, word_hashes

LISTS = {
    "en": (
        "arse", "arsehole", "ass", "asses", "asshole", "assholes", "bastard", "bastards", "bitch", "bitches", "bitching", "blowjob",
        "bollocks", "bullshit", "cock", "cocks", "cocksucker", "coon", "cum", "cumshot", "cunt", "cunts", "dick", "dickhead", "dildo", "dyke",
        "dykes", "fag", "faggot", "faggots", "fags", "fuck", "fucked", "fucker", "fuckers", "fuckin", "fucking", "fucks", "gangbang",
        "goddamn", "gook", "handjob", "hoe", "hoes", "jackass", "jizz", "kike", "milf", "motherfucker", "motherfuckers", "motherfucking",
        "nigga", "niggas", "nigger", "niggers", "paki", "piss", "pissed", "porn", "porno", "prick", "pussies", "pussy", "raghead",
        "retard", "retarded", "retards", "shit", "shits", "shitty", "slut", "sluts", "slutty", "spic", "tits", "titties", "tranny", "twat",
        "wank", "wanker", "wetback", "white trash", "whore", "whores", "son of a bitch", "piece of shit", "kill yourself",
    ),
    "de": (
        "arsch", "arschloch", "arschlöcher", "fick", "ficken", "fotze", "fotzen", "hure", "huren", "hurensohn", "kanake", "missgeburt",
        "neger", "nutte", "nutten", "scheisse", "scheiße", "schlampe", "schwuchtel", "wichser",
    ),
    "es": (
        "cabrón", "cabrones", "chinga", "coño", "follar", "gilipollas", "hijo de puta", "hijos de puta", "joder", "maricón", "maricones",
        "mierda", "pendejo", "polla", "puta", "putas", "puto", "putos", "zorra",
    ),
    "fr": (
        "bite", "bougnoule", "bordel", "con", "connard", "connards", "connasse", "couilles", "enculé", "enculés", "fils de pute", "merde",
        "nègre", "niquer", "pédé", "pétasse", "putain", "pute", "putes", "salope", "salopes",
    ),
}  # fmt: skip
"""A few dozen words that are hardly ever meant kindly. Ours; for work in earnest bring a list of your own."""


class Toxicity(Filter):
    """Drops documents with too large a share of listed words, in any case, or with too many of them; the spans show each.

    Only whole words count, so "Scunthorpe" is safe; an entry may be of several words. In scripts without blanks every character is a word, and
    an entry is found wherever its characters stand together. A list knows nothing of what is meant: quotations and reclaimed words count too.

    Source: Raffel et al. (2020), arXiv 1910.10683, section 2.2, who drop a page for one word (`max_listed=0`); Laurençon et al. (2022), arXiv
    2303.03915, who bound the share. Departures: the bound is ours.
    """

    language: Literal["en", "de", "es", "fr"] = "en"
    """Which of the small built-in lists is used, where no other is given."""
    words: Path | None = None
    """A list instead: a text file in UTF-8, an entry per line."""
    max_share: float | None = 0.02
    """Share of words that are listed."""
    max_listed: int | None = None
    """How many listed words there may be."""

    def check(self) -> None:
        if self.words is not None and not self.words.is_file():
            raise self.refuse("words", "is no file; name a list with an entry per line")

    def identity(self, path: str = "") -> dict[str, Any]:
        plain = super().identity(path)
        return plain if self.words is None else plain | {"words": sha256_of(self.words)}

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        words = Words.of(judged(batch.column("text")), fold=True)
        at, sizes = occurrences(words, _built_in(self.language) if self.words is None else _from_file(self.words, sha256_of(self.words)))
        listed = covered(len(words.hash), at, sizes)
        return Verdicts.by_measures(batch, [
            Measure(name="listed_share", values=share(words.total(listed), words.total(~words.symbol)), high=self.max_share),
            Measure(name="listed_words", values=pa.array(words.total(listed), pa.float64()), high=self.max_listed),
        ], spans_at(words, at, sizes))


def covered(n: int, at: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which of `n` words lie in one of some runs of words."""
    edges = np.bincount(at, minlength=n + 1) - np.bincount(at + sizes, minlength=n + 1)
    return np.cumsum(edges)[:n] > 0


@lru_cache(maxsize=8)
def _built_in(language: str) -> tuple[np.ndarray, ...]:
    return tuple(word_hashes(LISTS[language], fold=True))


@lru_cache(maxsize=8)
def _from_file(path: Path, digest: str) -> tuple[np.ndarray, ...]:
    try:
        entries = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"Toxicity.words={path} is not UTF-8; convert it") from None
    return tuple(word_hashes([entry for entry in entries if entry.strip()], fold=True))
