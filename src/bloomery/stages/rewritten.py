"""What a model writes about texts, beside what was to be written."""

from __future__ import annotations

from typing import Any

from bloomery.core.errors import DataError
from bloomery.data import TokenShards
from bloomery.data.rewrites import parted
from bloomery.evals.texts import figures_of
from bloomery.generate import Reads, complete
from bloomery.models import CausalModel
from bloomery.text.tokenizer import Tokenizer


def rewritten(
    model: CausalModel, shards: TokenShards, tokenizer: Tokenizer, max_new_tokens: int, reads: Reads
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Has a model write about every row that has a target, token by most likely token; figures, and a line for each row.

    Args:
        model: a decoder goes on with what is to be read, an encoder–decoder writes about it as its passage.
        shards: of `Rewrites()`.
        tokenizer: of the rows.
        max_new_tokens: the longest answer.
        reads: how a decoder reads what it goes on with.

    Raises:
        DataError: no row has a target, or one is longer than the model reads.
    """
    asked = [number for number in range(len(shards)) if shards.learnt[number]]
    if not asked:
        raise DataError(f"none of the {len(shards)} rows has a target; name its column in Rewrites.target")
    read, targets = zip(*(parted(shards.document(number), shards.mask(number)) for number in asked), strict=True)
    passages, prompts = (read, [[tokenizer.begin]] * len(read)) if model.config.reads_passage else (None, read)
    written = complete(model, prompts, {tokenizer.end}, max_new_tokens, vocab_size=tokenizer.vocab_size, passages=passages,
                       reads=reads)  # fmt: skip
    expected, said, sources = ([tokenizer.decode(ids) for ids in some] for some in (targets, written, read))
    lines = [
        {"id": shards.id(number), "source": source, "expected": want, "predicted": have}
        for number, source, want, have in zip(asked, sources, expected, said, strict=True)
    ]
    return {**figures_of(expected, said), "labels": len(lines)}, lines
