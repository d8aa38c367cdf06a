"""One example of what a training learns and what it only reads, shown before its first step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from rich.text import Text

from bloomery.data import Packed
from bloomery.text.tokenizer import Tokenizer

LEARNT, READ = "bold green", "bright_black"
LONGEST_RUN = 120
"""Tokens of one kind that are shown in a row; of longer runs the two ends are."""


def example_of(corpus: Packed, tokenizer: Tokenizer, told: Callable[[float], str] = str) -> Text:
    """The first document of a masked corpus's rows: grey what is only read, green and in ⟦ ⟧ what is learnt, or what a label says.

    Args:
        corpus: whose shards have a mask.
        tokenizer: which made them.
        told: what a label means.
    """
    span, shards = corpus.documents(0, 1)[0], corpus.shards
    number = int(corpus.pieces(0, 1).documents[0])
    tokens, mask = shards.document(number, span.start, span.stop).tolist(), shards.mask(number, span.start, span.stop).tolist()
    what = "labels" if shards.head is not None else "tokens to be learnt"
    beyond = int(shards.cuts[number]) + (int(shards.lengths[number]) - span.stop if corpus.packing.whole else 0)
    cut = f"; {beyond} more tokens of it are cut" if beyond else ""
    shown = Text(f"an example, {span.id}: {sum(mask)} {what} in {len(tokens)} tokens{cut}\n")
    if shards.head is None:
        for learnt, run in groupby(zip(mask, tokens, strict=True), key=lambda pair: pair[0]):
            text = _shortened([token for _, token in run], tokenizer)
            shown.append(f"⟦{text}⟧" if learnt else text, LEARNT if learnt else READ)
        return shown
    begin, labels = 0, iter(shards.labels(number).tolist())
    for place in [i for i, there in enumerate(mask) if there]:
        shown.append(_shortened(tokens[begin : place + 1], tokenizer), READ)
        shown.append(f"⟦{told(next(labels))}⟧", LEARNT)
        begin = place + 1
    return shown.append(_shortened(tokens[begin:], tokenizer), READ)


def _shortened(tokens: list[int], tokenizer: Tokenizer) -> str:
    """The text of a run of tokens, control tokens included, without the middle of a long one."""
    if len(tokens) <= LONGEST_RUN:
        return tokenizer.decode_markup(tokens)
    half = LONGEST_RUN // 2
    return f"{tokenizer.decode_markup(tokens[:half])} … {len(tokens) - 2 * half} tokens … {tokenizer.decode_markup(tokens[-half:])}"
