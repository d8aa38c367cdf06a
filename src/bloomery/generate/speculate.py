"""Speculative decoding: what a drafter guesses is read at once, and as much of it stands as keeps the distribution of the texts what it is.

    a guess x that was drawn from q stands with probability min(1, p(x) / q(x)), where p is what the model would draw from;
    in the stead of the first one that falls a token is drawn from max(0, p − q) / Σ max(0, p − q); behind the last one that stands, from p

p and q are those that the sampler draws from, once rules have changed the scores. A guess that was not drawn has q(x) = 1: a token is drawn
from p, and the guess stands if that is it, so that the same seed gives the same text as without a drafter. So it does for `Greedy`.

Source: Leviathan et al. (2022), arXiv 2211.17192, algorithm 1; Chen et al. (2023), arXiv 2302.01318.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from bloomery.generate.decode import Until, read_at
from bloomery.generate.drafters import Begin, Drawn, read
from bloomery.generate.picks import Picks
from bloomery.generate.prompts import PADDING_ID, room_behind
from bloomery.generate.rules import Text
from bloomery.models.model import CausalModel
from bloomery.nn.cache import Cache
from bloomery.nn.seen import Seen


class Rounds:
    """Some texts that go on, each by one token a round at least.

    Args:
        model: which checks.
        begin: makes the guesser.
        picks: of the texts.
        rows: numbers of those texts that are in the batch, one row each.
        longest: tokens of a text and its prompt together, by their numbers.
        vocab_size: ids from there on are never picked.
    """

    @torch.inference_mode()
    def __init__(
        self, model: CausalModel, begin: Begin, picks: Picks, rows: Sequence[int], longest: Sequence[int], vocab_size: int | None = None
    ) -> None:
        self._model, self._picks, self._longest, self._vocab_size, self.rows = model, picks, longest, vocab_size, [*rows]
        prompts, capacity = [picks.texts[row].prompt for row in rows], max(longest[row] for row in rows)
        self._cache, self._guesser = model.new_cache(len(rows), capacity), begin(len(rows), capacity)
        read(model, prompts, self._cache)
        self._guesser.join(prompts)

    @torch.inference_mode()
    def round(self) -> list[list[int]]:
        """What is new in each row."""
        texts, picks = [self._picks.texts[row] for row in self.rows], self._picks
        most = [self._longest[row] - text.length - 1 for row, text in zip(self.rows, texts, strict=True)]

        def draw(logits: Tensor, places: Sequence[int], ahead: Sequence[Sequence[int]]) -> list[Drawn]:
            return picks.guess(logits[:, : self._vocab_size], [self.rows[at] for at in places], ahead)

        guess = self._guesser.guess(texts, most, draw, self._cache)
        told = read_guesses(self._model, texts, guess.tokens, self._cache)
        return [
            picks.check(logits[:, : self._vocab_size], row, own, by)
            for row, logits, own, by in zip(self.rows, told, guess.tokens, guess.by, strict=True)
        ]

    @torch.inference_mode()
    def keep(self, places: Sequence[int]) -> None:
        """Goes on with some of the rows."""
        self.rows = [self.rows[place] for place in places]
        if not self.rows:
            return
        kept = torch.tensor(places, device=self._model.device)
        self._cache = self._cache.select(kept)
        self._guesser.select(kept)


def read_guesses(
    model: CausalModel, texts: Sequence[Text], guessed: Sequence[Sequence[int]], cache: Cache, seen: Seen | None = None
) -> list[Tensor]:
    """Reads the last token of each of some texts, and how they may go on; returns of each the logits behind each of these tokens,
    (guesses + 1, vocab). `seen` keeps what it is asked to keep, padded on the right."""
    time = max(map(len, guessed)) + 1
    last = [(text.new or text.prompt)[-1] for text in texts]
    new = [[token, *own, *[PADDING_ID] * (time - 1 - len(own))] for token, own in zip(last, guessed, strict=True)]
    # Padding stands no farther than at the place behind the guesses, which is written again before it is seen.
    places = [[min(text.length - 1 + i, text.length + len(own)) for i in range(time)] for text, own in zip(texts, guessed, strict=True)]
    features, asked = read_at(model, new, places, cache, seen=seen), [len(own) + 1 for own in guessed]
    wanted = torch.cat([its[:n] for its, n in zip(features, asked, strict=True)])
    return list(model.unembed(wanted).split(asked))


def guessed(
    begin: Begin, picks: Picks, model: CausalModel, stop_ids: Collection[int], max_new_tokens: int, batch_rows: int = 64,
    vocab_size: int | None = None, until: Until | None = None,
) -> Iterator[tuple[int, int]]:
    """The tokens that follow some prompts, with the numbers of these: those of a prompt in order.

    Args:
        begin: makes what guesses.
        picks: of texts that are not begun.
        model: which checks; its weights must not change meanwhile.
        stop_ids: ids that end a text; they are not told.
        max_new_tokens: of each; the end of the model's context ends a text too.
        batch_rows: texts at a time; changes nothing but speed and memory.
        vocab_size: ids from there on are never picked.
        until: asked behind each token whether that ends the text.

    Raises:
        DataError: a prompt is empty, too long, or has an id that the model doesn't know. Raised by the call, not by the first `next`.
    """
    prompts = [text.prompt for text in picks.texts]
    longest = [len(prompt) + min(max_new_tokens, room_behind(model, prompt, f"prompt {i}")) for i, prompt in enumerate(prompts)]
    return _guessed(begin, picks, model, frozenset(stop_ids), longest, batch_rows, vocab_size, until)


def _guessed(
    begin: Begin, picks: Picks, model: CausalModel, stop_ids: frozenset[int], longest: Sequence[int], batch_rows: int,
    vocab_size: int | None, until: Until | None,
) -> Iterator[tuple[int, int]]:
    prompts = [text.prompt for text in picks.texts]
    by_length = [i for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i])) if longest[i] > len(prompts[i])]
    told: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(by_length), batch_rows):
        rounds = Rounds(model, begin, picks, by_length[start : start + batch_rows], longest, vocab_size)
        while rounds.rows:
            going = []
            for place, (row, new) in enumerate(zip(rounds.rows, rounds.round(), strict=True)):
                ended = False
                for token in new:
                    if ended := token in stop_ids:
                        break
                    told[row].append(token)
                    yield row, token
                    full = len(prompts[row]) + len(told[row]) >= longest[row]
                    if ended := full or (until is not None and until(row, told[row])):
                        break
                if not ended:
                    going.append(place)
            if len(going) < len(rounds.rows):
                rounds.keep(going)
