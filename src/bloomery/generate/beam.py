"""`Beam`: the likeliest text among some that are followed side by side; with random numbers, and in groups that avoid each other, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from bloomery.generate.reading import Reading
from bloomery.generate.rules import Text
from bloomery.generate.samplers import Random
from bloomery.generate.search import Found, Search, Steps, Terms

Ends = Literal["full", "likely", "never"]
"""When a prompt is done, once it has as many whole texts as beams: at once; when the best beam, were it whole now, would be no better than the
worst of them; or when it would be no better at its longest."""


class Beam(Search):
    """Follows the `n_beams` likeliest beginnings side by side.

        score of a whole text = Σ log p(token) / tokens^length_penalty

    Of the 2·n_beams likeliest ways to go on (of more where more tokens end a text), those among the first n_beams that end a text are whole;
    the n_beams likeliest of the others go on.

    With a `sampler` the ways are drawn, without replacement, from the sum of the log-probabilities as it cuts them. In `groups`, each group
    in turn takes `diversity` off the log-probability of a token for each beam of the groups before it that has just taken it.

    Source: transformers 5 (early stopping, length penalty, drawn beams); Vijayakumar et al. (2016), arXiv 1610.02424, algorithm 1, for groups.
    """

    n_beams: Annotated[int, Ge(1)] = 4
    """Beginnings that are followed."""
    length_penalty: float = 1.0
    """Above 0 favours long texts, 0 short ones."""
    ends: Ends = "likely"
    """When it is done: transformers' early_stopping True, False or "never"."""
    sampler: Random | None = None
    """Draws the ways to go on; None takes the likeliest."""
    groups: Annotated[int, Ge(1)] = 1
    """That the beams are parted into."""
    diversity: Annotated[float, Ge(0)] = 0.0
    """What a token loses for each beam of an earlier group that has taken it at this place."""

    def check(self) -> None:
        if self.n_beams % self.groups:
            raise self.refuse("groups", f"does not part n_beams={self.n_beams} evenly; {self.n_beams} would")
        if self.diversity and self.groups == 1:
            raise self.refuse("diversity", "has no groups to set apart; give groups=n_beams, say")
        if self.sampler is not None and self.groups > 1:
            raise self.refuse("groups", "goes with the likeliest ways only; leave out the sampler")

    @property
    def n_rows(self) -> int:
        return self.n_beams

    def follow(self, reading: Reading, prompts: Sequence[Sequence[int]], terms: Terms) -> Steps:
        by_prompt: list[list[Group]] = []
        for prompt in range(len(prompts)):
            groups: list[Group] = []
            for _ in range(self.groups):
                groups.append(Group(self, prompt, tuple(groups)))
            by_prompt.append(groups)
        every = [group for groups in by_prompt for group in groups]
        while alive := [group for group in every if group.going]:
            ways = [(group.prompt, way) for group in alive for way in group.going]
            logp = reading.logits[[way.row for _, way in ways]].log_softmax(dim=-1)
            scores = terms.scores(logp, [Text(prompts[prompt], way.tokens) for prompt, way in ways])
            if self.sampler is not None:
                scores = self.sampler.cut(scores, at_least=1 + len(terms.stop_ids))
            for group, own in zip(alive, scores.split([len(group.going) for group in alive]), strict=True):
                group.step(own, terms)
            if going := [way for group in alive for way in group.going]:
                reading.select([way.row for way in going])
                reading.read([way.tokens[-1] for way in going])
            for row, way in enumerate(going):
                way.row = row
            yield
        return [sorted((found for group in groups for found in group.whole), key=lambda found: -found.score) for groups in by_prompt]


@dataclass
class Way:
    """A beginning that is followed: the sum of its log-probabilities, its tokens, and the row in which it has been read."""

    score: float
    tokens: list[int]
    row: int


class Group:
    """The beams of one prompt that stand in each other's way.

    Attributes:
        going: those that are followed, the likeliest first; none once all is done.
        whole: the best whole texts so far.
    """

    def __init__(self, beam: Beam, prompt: int, before: Sequence[Group]) -> None:
        self.beam, self.prompt, self.before = beam, prompt, before
        self.width = beam.n_beams // beam.groups
        self.going = [Way(0.0, [], prompt)]
        self.whole: list[Found] = []
        self.length = 0

    def step(self, scores: Float[Tensor, "going vocab"], terms: Terms) -> None:
        """One token more.

        Args:
            scores: log-probabilities of what may come behind each beam.
            terms: of the search.
        """
        for token, beams in Counter(way.tokens[-1] for group in self.before for way in group.going).items():
            scores[:, token] -= self.beam.diversity * beams
        ahead = [Way(score, [*way.tokens, token], way.row) for score, way, token in self._ahead(scores, terms)]
        if not ahead:  # rules leave nothing to say
            self.whole += [Found(way.tokens, self._score(way.score, self.length)) for way in self.going]
        self.length += 1
        ended = [terms.ends(self.prompt, way.tokens) for way in ahead]
        ended_well = [way for way, end in zip(ahead[: self.width], ended[: self.width], strict=True) if end]
        self.whole += [terms.found(way.tokens, self._score(way.score, self.length)) for way in ended_well]
        self.whole = sorted(self.whole, key=lambda found: -found.score)[: self.width]
        going = [way for way, end in zip(ahead, ended, strict=True) if not end]
        self.going = sorted(going, key=lambda way: -way.score)[: self.width]
        if self._done(terms.limits[self.prompt]):
            self.going = []

    def _ahead(self, scores: Float[Tensor, "going vocab"], terms: Terms) -> list[tuple[float, Way, int]]:
        """The ways to go on that are looked at: (Σ log p, the beam behind which, the token)."""
        vocab_size, n = scores.shape[-1], max(2, 1 + len(terms.stop_ids)) * self.width
        totals = (scores + scores.new_tensor([way.score for way in self.going])[:, None]).flatten()
        if self.beam.sampler is None:
            places = totals.topk(min(n, len(totals))).indices
        else:
            every = torch.full((self.width * vocab_size,), -torch.inf)  # as many numbers are drawn as for all beams
            every[: len(totals)] = totals.cpu()
            places = torch.multinomial(every.softmax(dim=-1), min(n, len(every)), generator=terms.draws[self.prompt]).to(totals.device)
            places = places[places < len(totals)]
        found = zip(totals[places].tolist(), places.tolist(), strict=True)
        return [(score, self.going[place // vocab_size], place % vocab_size) for score, place in found if score > -torch.inf]

    def _score(self, total: float, length: int) -> float:
        return total / length**self.beam.length_penalty if length else total

    def _done(self, limit: int) -> bool:
        if len(self.whole) < self.width or not self.going:
            return False
        length = limit if self.beam.ends == "never" and self.beam.length_penalty > 0 else self.length
        return self.beam.ends == "full" or self._score(self.going[0].score, length) <= self.whole[-1].score
