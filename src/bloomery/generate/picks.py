"""`Picks`: the next tokens of some texts, as a sampler picks them once rules have changed their scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.generate.decode import random_numbers
from bloomery.generate.rules import Shape, Text
from bloomery.generate.samplers import Sampler


class Picks:
    """Picks the tokens of some texts as a sampler does, once rules have changed their scores; a text that they leave nothing to say ends.

    Args:
        sampler: how.
        shapes: rules that are ready to be followed.
        prompts: which the texts go on with.
        seeds: of what is drawn for each.
        end: the token that ends texts.

    Attributes:
        texts: as far as they are written.
    """

    def __init__(self, sampler: Sampler, shapes: Sequence[Shape], prompts: Sequence[Sequence[int]], seeds: Sequence[int], end: int) -> None:
        self.texts = [Text(prompt) for prompt in prompts]
        self._sampler, self._shapes, self._end = sampler, shapes, end
        self._draws = [random_numbers(seed) for seed in seeds]

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """One token for each of some texts, which is written behind it."""
        texts = [self.texts[row] for row in rows]
        picked = self._sampler.pick_each(self.scores(logits, texts), [self._draws[row] for row in rows])
        for text, token in zip(texts, picked.tolist(), strict=True):
            text.new.append(token)
        return picked

    def guess(
        self, logits: Float[Tensor, "some vocab"], rows: Sequence[int], ahead: Sequence[Sequence[int]]
    ) -> list[tuple[int, Float[Tensor, " vocab"] | None]]:
        """One token for each of some texts as another model guesses it, which is not written; and the distribution that it was drawn from,
        or None where it was not drawn.

        Args:
            logits: of that model.
            rows: numbers of the texts.
            ahead: what was guessed for each before.
        """
        scores = self.scores(logits, [self.texts[row].then(tokens) for row, tokens in zip(rows, ahead, strict=True)])
        tokens, by = self._sampler.guess_each(scores, [self._draws[row] for row in rows])
        return list(zip(tokens.tolist(), [None] * len(rows) if by is None else by, strict=True))

    def check(
        self, logits: Float[Tensor, "time vocab"], row: int, guessed: Sequence[int], by: Float[Tensor, "guesses vocab"] | None
    ) -> list[int]:
        """As many of a text's guesses as stand, and one token more, which are written behind it.

        Args:
            logits: behind the text, and behind each of the guesses.
            row: number of the text.
            guessed: tokens.
            by: the distributions that they were drawn from; None where they were not drawn.
        """
        text = self.texts[row]
        scores = self.scores(logits, [text.then(guessed[:n]) for n in range(len(guessed) + 1)])
        kept = self._sampler.checked(scores, guessed, by, self._draws[row])
        text.new.extend(kept)
        return kept

    def scores(self, logits: Float[Tensor, "rows vocab"], texts: Sequence[Text]) -> Float[Tensor, "rows vocab"]:
        """What rules make of logits behind some texts."""
        scores = logits.float()
        for shape in self._shapes:
            scores = shape(scores, texts)
        if self._shapes:
            nothing = scores.amax(dim=-1) == -torch.inf
            scores = scores.index_put((nothing.nonzero().flatten(), torch.tensor(self._end, device=scores.device)), scores.new_zeros(()))
        return scores
