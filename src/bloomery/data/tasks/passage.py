"""`FromPassage` and `FromPrefix`: what comes before that which is to be learnt of a document is read both ways, by an encoder or in the row."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from bloomery.core.errors import DataError
from bloomery.core.units import Tokens
from bloomery.data.batch import Batch
from bloomery.data.source import Rows
from bloomery.data.tasks.task import RowTask, batch_of, stretches
from bloomery.data.tasks.vocabulary import Vocabulary
from bloomery.nn.layout import Passage, SequenceLayout


class FromPassage(RowTask):
    """A decoder writes a document from its first token that is to be learnt on; its encoder reads what comes before that.

        document:  <|begin|> The sun rose. <|end|> Die Sonne ging auf. <|end|>      (`Rewrites`; the latter text is to be learnt)
        passage:   <|begin|> The sun rose. <|end|>
        text:      Die Sonne ging auf. <|end|>                                      (read behind <|begin|>)

    So with translations and summaries, and with conversations, whose first answer it begins with. The documents of a row stay together: the
    text of each sees the passage of the same. Both have as many places as the row, of which together they fill no more than one has.

    Source: Sutskever et al. (2014), arXiv 1409.3215, as Transformers in Vaswani et al. (2017), arXiv 1706.03762; on packed rows.
    """

    gives_passage: ClassVar[bool] = True

    text: Tokens | None = None
    """Places of the texts of a row, where they need fewer than their passages; None for as many."""

    def text_time(self, time: int) -> int:
        return time if self.text is None else min(self.text, time)

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        count, time = rows.tokens.shape
        passages, texts = Rows.empty(count, time, vocabulary.pad), Rows.empty(count, self.text_time(time), vocabulary.pad)
        for i in range(count):
            read = written = 0
            for number, (start, stop) in enumerate(stretches(rows.segments[i]), start=1):
                counted = np.flatnonzero(rows.loss_weight[i, start:stop])  # a place counts for the token behind it
                split = start + int(counted[0]) + 1 if len(counted) else stop
                here, there = slice(read, read + split - start), slice(written, written + stop - split)
                read, written = here.stop, there.stop
                if written > texts.tokens.shape[1]:
                    raise DataError(f"row {first_row + i} has more than FromPassage.text={self.text} tokens to write; raise it")
                passages.tokens[i, here], passages.segments[i, here] = rows.tokens[i, start:split], number
                target = rows.tokens[i, split:stop]
                texts.tokens[i, there] = np.concatenate([[vocabulary.begin], target[:-1]])[: len(target)]
                texts.targets[i, there], texts.segments[i, there] = target, number
                texts.loss_weight[i, there] = rows.loss_weight[i, split - 1 : stop - 1]
        passage = Passage(torch.from_numpy(passages.tokens), SequenceLayout.packed(torch.from_numpy(passages.segments), causal=False))
        text = batch_of(texts, first_row, SequenceLayout.packed(torch.from_numpy(texts.segments)))
        return Batch(text.tokens, text.targets, text.loss_weight, text.layout, first_row, passage)


class FromPrefix(RowTask):
    """What is to be learnt of a document from what comes before it, which all of it sees, as does that itself.

    Where `PrefixLM` draws where the beginning ends, here it ends before the first token that is to be learnt: the source of a translation is
    read both ways by a decoder, which writes the target. To have it write, say so: `complete(…, reads="both_ways")`.

    Source: Raffel et al. (2020), arXiv 1910.10683, section 3.2.1 and figure 4, on packed rows.
    """

    sees_prefix: ClassVar[bool] = True

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        prefix = np.zeros(rows.segments.shape, bool)
        for i in range(len(prefix)):
            for start, stop in stretches(rows.segments[i]):
                counted = np.flatnonzero(rows.loss_weight[i, start:stop])
                prefix[i, start : start + int(counted[0]) + 1 if len(counted) else stop] = True
        layout = replace(SequenceLayout.packed(torch.from_numpy(rows.segments)), prefix=torch.from_numpy(prefix))
        return batch_of(rows, first_row, layout)
