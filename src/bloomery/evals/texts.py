"""Texts beside those that were expected: BLEU and chrF of translations, ROUGE of summaries. All are of 100."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import mean

import numpy as np
from jaxtyping import Float

BLEU_ORDER, CHRF_ORDER, RECALL_WEIGHT = 4, 6, 2
ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
SIGNS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
WORD = re.compile(r"[^\W_]+")


def bleu(expected: Sequence[str], said: Sequence[str]) -> float:
    """BLEU of a corpus, of 100:  b · exp(Σₙ ln pₙ / 4),  n = 1 … 4

    where pₙ is the share of the n-grams of what was said that are expected, each as often as it is expected, and b = min(1, exp(1 − expected /
    said words)). Where no n-gram of an order is right, pₙ is 1 / (2ᵏ · n-grams), k counting such orders; where none of any order is, BLEU is 0.

    Args:
        expected: one text for each that was said.
        said: as the model wrote it; case counts.

    Source: Papineni et al. (2002), "BLEU"; words, smoothing and the rest as in Post (2018), arXiv 1804.08771, the signature
    nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp.
    """
    return float(bleu_of(bleu_parts(expected, said).sum(0)))


def bleu_parts(expected: Sequence[str], said: Sequence[str]) -> Float[np.ndarray, "texts 10"]:
    """What BLEU is a function of the sums of: of each text the right n-grams of orders 1 to 4, all its n-grams, and words expected and said."""
    parts = []
    for want, have in zip(map(words_13a, expected), map(words_13a, said), strict=True):
        counts = [overlap(grams(want, n), grams(have, n)) for n in range(1, BLEU_ORDER + 1)]
        parts.append([*(both for both, _, _ in counts), *(had for _, _, had in counts), len(want), len(have)])
    return np.array(parts, np.float64)


def bleu_of(sums: Float[np.ndarray, "*draws 10"]) -> Float[np.ndarray, "*draws"]:
    """BLEU from sums of `bleu_parts`."""
    right, total, wanted, had = sums[..., :BLEU_ORDER], sums[..., BLEU_ORDER:-2], sums[..., -2], sums[..., -1]
    none = right == 0
    shares = np.where(none, 0.5 ** none.cumsum(-1), right) / np.maximum(total, 1)
    short = np.minimum(0, 1 - wanted / np.maximum(had, 1))
    said = right.any(-1) & total.all(-1)
    return np.where(said, 100 * np.exp(short + np.log(np.where(shares > 0, shares, 1)).mean(-1)), 0.0)


def chrf(expected: Sequence[str], said: Sequence[str]) -> float:
    """chrF of a corpus, of 100:  5·P·R / (4·P + R)

    where P and R are the means over n = 1 … 6 of the shares of n-grams of characters, blanks left out, that are expected among those that were
    said, and that were said among those expected; over orders that both have.

    Args:
        expected: one text for each that was said.
        said: as the model wrote it; case counts.

    Source: Popović (2015), "chrF", with β = 2; as in Post (2018), arXiv 1804.08771, the signature
    nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no.
    """
    return float(chrf_of(chrf_parts(expected, said).sum(0)))


def chrf_parts(expected: Sequence[str], said: Sequence[str]) -> Float[np.ndarray, "texts 18"]:
    """What chrF is a function of the sums of: of each text the n-grams of orders 1 to 6 that are in both, that are expected, that are said."""
    parts = []
    for want, have in zip(expected, said, strict=True):
        want, have = "".join(want.split()), "".join(have.split())
        counts = [overlap(grams(want, n), grams(have, n)) for n in range(1, CHRF_ORDER + 1)]
        counts = [(both, wanted, had if wanted else 0) for both, wanted, had in counts]  # none counts against no n-gram
        parts.append([count for kind in zip(*counts, strict=True) for count in kind])
    return np.array(parts, np.float64)


def chrf_of(sums: Float[np.ndarray, "*draws 18"]) -> Float[np.ndarray, "*draws"]:
    """chrF from sums of `chrf_parts`."""
    both, wanted, had = np.split(sums, 3, axis=-1)
    there = (wanted > 0) & (had > 0)
    orders = np.maximum(there.sum(-1), 1)
    precision, recall = (np.where(there, both / np.maximum(of, 1), 0).sum(-1) / orders for of in (had, wanted))
    weight = RECALL_WEIGHT**2
    return 100 * (1 + weight) * precision * recall / np.where(precision > 0, weight * precision + recall, 1)


def rouge(expected: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """The means over texts of ROUGE-1, ROUGE-2 and ROUGE-L, of 100: F1 of shared words, of shared pairs of words, and of the longest common
    subsequence of words.

    Args:
        expected: one text for each that was said.
        said: as the model wrote it; case and signs do not count.

    Source: Lin (2004), "ROUGE", sections 2 and 3; as in the package rouge-score without its stemmer. Departure: words may be of any script,
    where that one keeps a to z and 0 to 9 only.
    """
    return {name: mean(of_texts) for name, of_texts in rouge_each(expected, said).items()}


def rouge_each(expected: Sequence[str], said: Sequence[str]) -> dict[str, list[float]]:
    """The same of each text."""
    pairs = [(WORD.findall(want.lower()), WORD.findall(have.lower())) for want, have in zip(expected, said, strict=True)]
    scores = {f"rouge{n}": [100 * f1_of(*overlap(grams(want, n), grams(have, n))) for want, have in pairs] for n in (1, 2)}
    return scores | {"rougeL": [100 * f1_of(common(want, have), len(want), len(have)) for want, have in pairs]}


def words_13a(text: str) -> list[str]:
    """Words and signs of a text as the script mteval-v13a parts them."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in ENTITIES:
        text = text.replace(entity, sign)
    text = f" {text} "
    for pattern, apart in SIGNS:
        text = pattern.sub(apart, text)
    return text.split()


def grams(of: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often there is each n-gram."""
    return Counter(tuple(of[i : i + n]) for i in range(len(of) - n + 1))


def overlap(expected: Counter[tuple[str, ...]], said: Counter[tuple[str, ...]]) -> tuple[int, int, int]:
    """How many are in both, each as often as in the one that has it less; and how many in each."""
    return sum(min(count, said[gram]) for gram, count in expected.items()), expected.total(), said.total()


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        before = 0  # the length for one word less of both
        for i, beside in enumerate(other, start=1):
            before, lengths[i] = lengths[i], before + 1 if word == beside else max(lengths[i], lengths[i - 1])
    return lengths[-1]


def f1_of(both: int, expected: int, said: int) -> float:
    """2·both / (expected + said): F1 of so many in common; 0 where one side has nothing."""
    return 2 * both / (expected + said) if both else 0.0


def figures_of(expected: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """All of these, and the share of texts that are exactly as expected."""
    exact = mean(want == have for want, have in zip(stripped(expected), stripped(said), strict=True))
    return {"bleu": bleu(expected, said), "chrf": chrf(expected, said), **rouge(expected, said), "exact": float(exact)}


def stripped(texts: Iterable[str]) -> list[str]:
    """Without blanks at the ends."""
    return [text.strip() for text in texts]
