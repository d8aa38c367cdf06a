"""`MaskedTokens`: hidden tokens are to be told from what is left around them."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool

from bloomery.data.batch import Batch
from bloomery.data.source import Rows
from bloomery.data.tasks.task import RowTask, learnable, task_rng
from bloomery.data.tasks.units import Token, Unit
from bloomery.data.tasks.vocabulary import MASK, Vocabulary, segment_starts
from bloomery.nn.layout import SequenceLayout


class MaskedTokens(RowTask):
    """A share of the tokens is hidden, anew each time a document is read, and to be told from all the others.

    Of the hidden tokens a share stays as it is, another becomes a random token of text, and the rest becomes `<|mask|>`. Control tokens and
    padding are never hidden; of a corpus with a loss mask, only what is to be learnt. Units are hidden in random order until their tokens
    are the share of the row; the one that would go beyond it is hidden with just the chance by which the share is met on average.

    Source: Devlin et al. (2019), arXiv 1810.04805, section 3.1; hidden anew each time as in Liu et al. (2019), arXiv 1907.11692. For
    replaced-token detection nothing is kept or random (Clark et al. 2020, arXiv 2003.10555, section 2).
    """

    both_ways: ClassVar[bool] = True
    gives_draws: ClassVar[bool] = True

    rate: Annotated[float, Gt(0), Le(1)] = 0.15
    """Share of the tokens that is hidden."""
    by: Unit = Token()
    """What is hidden together: `Token()`, `Word()`, `Span()` or `Entity()`."""
    keep: Annotated[float, Ge(0), Le(1)] = 0.1
    """Share of the hidden tokens that is left as it is."""
    random: Annotated[float, Ge(0), Le(1)] = 0.1
    """Share of the hidden tokens that becomes a random token."""

    def check(self) -> None:
        if self.keep + self.random > 1:
            raise self.refuse("keep", f"and random={self.random} are more than 1 together; lower one of them")

    def roles(self, time: int) -> tuple[str, ...]:
        return (MASK,) if self.keep + self.random < 1 else ()

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        tokens, mask = rows.tokens.copy(), vocabulary.id(MASK)
        words, documents = vocabulary.word_starts(rows.tokens, rows.segments), segment_starts(rows.segments)
        may = learnable(rows) & vocabulary.text[rows.tokens]
        hidden, draws = np.zeros(tokens.shape, bool), np.empty(tokens.shape, np.float32)
        for i in range(len(tokens)):
            rng = task_rng(self, seed, first_row + i)
            units = np.cumsum(self.by.starts(rows.tokens[i], words[i], vocabulary, rng) | documents[i]) - 1
            hidden[i] = self.choose(units, may[i], rng)
            how = rng.random(len(units))
            if self.by.alike:
                how = how[units]
            some = hidden[i] & (how >= self.keep)
            by_chance = vocabulary.text_ids[rng.integers(len(vocabulary.text_ids), size=len(units))]
            tokens[i, some] = np.where(how < self.keep + self.random, by_chance, mask)[some]
            draws[i] = rng.random(len(units), np.float32)
        layout = SequenceLayout.packed(torch.from_numpy(rows.segments), causal=False)
        weight = torch.from_numpy(hidden.astype(np.float32))
        return Batch(torch.from_numpy(tokens), torch.from_numpy(rows.tokens), weight, layout, first_row, draws=torch.from_numpy(draws))

    def choose(self, units: np.ndarray, may: Bool[np.ndarray, " time"], rng: np.random.Generator) -> Bool[np.ndarray, " time"]:
        """Which places of a row are hidden.

        Args:
            units: (time,) the unit of each place, from 0.
            may: what may be hidden.
            rng: of the row.
        """
        sizes = np.bincount(units[may], minlength=int(units[-1]) + 1)
        order = rng.permutation(np.flatnonzero(sizes))
        total, wanted = np.cumsum(sizes[order]), self.rate * may.sum()
        whole = int(np.searchsorted(total, wanted, side="right"))  # units that fit
        if whole < len(order):
            missing = wanted - (total[whole - 1] if whole else 0)
            whole += rng.random() < missing / sizes[order[whole]]
        chosen = np.zeros(len(sizes), bool)
        chosen[order[:whole]] = True
        return chosen[units] & may
