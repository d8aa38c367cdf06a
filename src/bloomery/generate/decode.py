"""Decoding with a cache: one prompt as a stream, or many prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.core.errors import DataError
from bloomery.core.rng import derive_seed
from bloomery.generate.prompts import PADDING_ID, as_passage, check_passages, padded, room_behind
from bloomery.generate.samplers import Greedy, Sampler
from bloomery.models.model import CausalModel
from bloomery.nn.cache import Cache
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.seen import Seen

Pick = Callable[[Tensor, Sequence[int]], Tensor]
"""(logits of the next token, (batch, vocab); the numbers of the prompts that the rows go on from) → one token id per row."""
Until = Callable[[int, Sequence[int]], bool]
"""(number of a prompt, its new tokens) → whether they end its text, the last of them being part of it."""
Reads = Literal["forward", "both_ways"]
"""How a prompt is read: each of its tokens from those before it; or all of it both ways, as `FromPrefix` has it learnt."""
PREFILL = 512  # tokens of a prompt that are read at a time, which bounds the memory of its attention mask
GREEDY = Greedy()
STAYING = 0.75  # of a batch's rows that must still go on for those that are done to stay in it: to drop them copies the cache


def stream(
    model: CausalModel, prompt: Sequence[int], sampler: Sampler, stop_ids: Collection[int], max_new_tokens: int, seed: int = 0,
    vocab_size: int | None = None, passage: Sequence[int] | None = None,
) -> Iterator[int]:
    """Yields the tokens that follow a prompt, one by one.

    Args:
        model: its weights must not change meanwhile.
        prompt: at least one token id; at most max_seq_len − 1 of them.
        sampler: how to pick.
        stop_ids: ids that end the text; they are not yielded.
        max_new_tokens: the most that are yielded; the end of the model's context ends the text too.
        seed: of what the sampler draws.
        vocab_size: of the tokenizer; the ids from there on, which a model with a larger vocabulary has for nothing, are never picked.
        passage: what an encoder–decoder is to write about, at least one token id; None for every other model.

    Raises:
        DataError: the prompt or the passage is empty, too long, or has an id that the model doesn't know, or there is a passage where there
            should be none, or none where there should be one. Raised by the call, not by the first `next`.
    """
    generator = random_numbers(seed)
    return stream_by(lambda logits, _: sampler.pick(logits, generator), model, prompt, stop_ids, max_new_tokens, vocab_size, passage)


def stream_by(
    pick: Pick, model: CausalModel, prompt: Sequence[int], stop_ids: Collection[int], max_new_tokens: int, vocab_size: int | None = None,
    passage: Sequence[int] | None = None,
) -> Iterator[int]:
    """As `stream`, with whatever picks the tokens; the one row is number 0."""
    room, passages = room_behind(model, prompt), None if passage is None else [passage]
    check_passages(model, passages, 1)
    return _stream(pick, model, prompt, frozenset(stop_ids), min(max_new_tokens, room), vocab_size, as_passage(model, passages))


def _stream(
    pick: Pick, model: CausalModel, prompt: Sequence[int], stop_ids: frozenset[int], limit: int, vocab_size: int | None, passage: Passage | None
) -> Iterator[int]:
    cache = model.new_cache(batch=1, capacity=len(prompt) + limit)
    *before, new = [prompt[i : i + PREFILL] for i in range(0, len(prompt), PREFILL)]
    for i, chunk in enumerate(before):
        _next_logits(model, [chunk], [i * PREFILL], cache, passage if i == 0 else None)
    passage, position = None if before else passage, len(before) * PREFILL
    for _ in range(limit):
        logits = _next_logits(model, [new], [position], cache, passage)
        passage, position = None, position + len(new)  # the cache has the passage from now on
        token = int(pick(logits[:, :vocab_size], [0]))
        if token in stop_ids:
            return
        yield token
        new = [token]


@torch.inference_mode()
def complete(
    model: CausalModel, prompts: Sequence[Sequence[int]], stop_ids: Collection[int], max_new_tokens: int, batch_rows: int = 64,
    vocab_size: int | None = None, passages: Sequence[Sequence[int]] | None = None, sampler: Sampler = GREEDY,
    seeds: Sequence[int] | None = None, reads: Reads = "forward",
) -> list[list[int]]:
    """A continuation of each of many prompts: what `stream` yields, but in batches; with `Greedy`, the most likely one token by token.

    Args:
        model: its weights must not change meanwhile.
        prompts: of any lengths from 1 to max_seq_len − 1.
        stop_ids: ids that end a text; they are not part of it.
        max_new_tokens: per prompt; the end of the model's context ends a text too.
        batch_rows: prompts per batch; changes nothing but speed and memory.
        vocab_size: as for `stream`.
        passages: one for each prompt, as for `stream`.
        sampler: how to pick.
        seeds: of what the sampler draws for each prompt, whatever others are in its batch; None is 0 for each. The last bits of a row's
            logits may depend on its batch, and a draw that falls within them, some one in a million, with them.
        reads: how prompts are read.

    Returns:
        the new tokens of each prompt, in the order of the prompts.

    Raises:
        DataError: a prompt or a passage is empty, too long, or has an id that the model doesn't know, or passages are there or missing where
            they should not be.
    """
    draws = [random_numbers(seed) for seed in ([0] * len(prompts) if seeds is None else seeds)]

    def pick(logits: Tensor, rows: Sequence[int]) -> Tensor:
        return sampler.pick_each(logits, [draws[i] for i in rows])

    return complete_by(pick, model, prompts, stop_ids, max_new_tokens, batch_rows, vocab_size, passages, reads)


@torch.inference_mode()
def complete_by(
    pick: Pick, model: CausalModel, prompts: Sequence[Sequence[int]], stop_ids: Collection[int], max_new_tokens: int, batch_rows: int = 64,
    vocab_size: int | None = None, passages: Sequence[Sequence[int]] | None = None, reads: Reads = "forward", until: Until | None = None,
) -> list[list[int]]:
    """As `complete`, with whatever picks the tokens; it is told each row that goes on once per token, in the order of its tokens.
    `until` is asked after each token whether that ends the text.

    Prompts of similar length go together; rows that are done leave the batch once they are a quarter of it.
    """
    check_passages(model, passages, len(prompts))
    if reads == "both_ways" and not model.config.reads_prefix:
        raise DataError(f"a {model.config.kind()} has no way to read a prompt both ways; take reads='forward'")
    limits = [min(max_new_tokens, room_behind(model, prompt, f"prompt {i}")) for i, prompt in enumerate(prompts)]
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(prompts), batch_rows):
        rows = [i for i in by_length[start : start + batch_rows] if limits[i] > 0]
        if rows:
            read = as_passage(model, None if passages is None else [passages[i] for i in rows])
            _complete_batch(model, prompts, rows, frozenset(stop_ids), limits, answers, vocab_size, read, pick, reads, until)
    return answers


def random_numbers(seed: int) -> torch.Generator:
    """What a sampler draws from for one prompt."""
    return torch.Generator().manual_seed(derive_seed(seed, "sample"))


def _complete_batch(
    model: CausalModel, prompts: Sequence[Sequence[int]], rows: list[int], stop_ids: frozenset[int], limits: list[int],
    answers: list[list[int]], vocab_size: int | None, passage: Passage | None, pick: Pick, reads: Reads, until: Until | None,
) -> None:
    """Fills in `answers` for the prompts numbered `rows`."""
    own = {tuple(prompts[i]): i for i in rows} if passage is None else {(i,): i for i in rows}  # a prompt of several texts is read once
    read = list(own.values())
    cache: Cache = model.new_cache(batch=len(read), capacity=max(len(prompts[i]) + limits[i] for i in rows))
    logits = _prefill(model, [prompts[i] for i in read], cache, passage, reads)
    if len(read) < len(rows):
        places = {prompt: place for place, prompt in enumerate(own)}
        copied = torch.tensor([places[tuple(prompts[i])] for i in rows], device=model.device)
        cache, logits = cache.select(copied), logits[copied]
    alive = list(range(len(rows)))  # places in the batch of the rows that go on
    while True:
        going = []
        for k, token in zip(alive, pick(logits[:, :vocab_size], [rows[k] for k in alive]).tolist(), strict=True):
            answer = answers[rows[k]]
            if token not in stop_ids:
                answer.append(token)
                if len(answer) < limits[rows[k]] and (until is None or not until(rows[k], answer)):
                    going.append(k)
        if not going:
            return
        alive = going
        if len(alive) <= STAYING * len(rows):
            rows = [rows[k] for k in alive]
            cache, alive = cache.select(torch.tensor(alive, device=model.device)), list(range(len(alive)))
        positions = [len(prompts[i]) + max(0, len(answers[i]) - 1) for i in rows]
        logits = _next_logits(model, [answers[i][-1:] or [PADDING_ID] for i in rows], positions, cache)
        if len(alive) < len(rows):
            logits = logits[alive]


def _prefill(
    model: CausalModel, prompts: list[Sequence[int]], cache: Cache, passage: Passage | None, reads: Reads
) -> Float[Tensor, "batch vocab"]:
    """Reads prompts of different lengths, padded on the right; returns the logits after the last token of each."""
    tokens, lengths = padded(prompts, model.device)
    last, ends = lengths - 1, None
    for start, features in read_prompts(model, tokens, lengths, cache, passage, reads):
        here = (last >= start) & (last < start + features.shape[1])
        ends = torch.empty_like(features[:, 0]) if ends is None else ends
        ends[here] = features[here, last[here] - start]
    assert ends is not None  # prompts are not empty
    return model.unembed(ends)


def read_prompts(
    model: CausalModel, tokens: Int[Tensor, "batch longest"], lengths: Int[Tensor, " batch"], cache: Cache, passage: Passage | None,
    reads: Reads,
) -> Iterator[tuple[int, Float[Tensor, "batch piece d_features"]]]:
    """Reads padded prompts piece by piece: of each, where it begins, and its features."""
    at_once = PREFILL if reads == "forward" else tokens.shape[1]  # what is seen from before it cannot come later
    for start in range(0, tokens.shape[1], at_once):
        piece = tokens[:, start : start + at_once]
        positions = torch.arange(start, start + piece.shape[1], device=model.device).expand_as(piece)
        segments = (positions < lengths[:, None]).long()  # 0 for padding
        layout = SequenceLayout(positions, segments, prefix=None if reads == "forward" else segments > 0)
        yield start, model.features(piece, layout, cache, passage=passage if start == 0 else None)  # the cache has it from then on


@torch.inference_mode()
def _next_logits(
    model: CausalModel, tokens: Sequence[Sequence[int]], starts: Sequence[int], cache: Cache, passage: Passage | None = None
) -> Float[Tensor, "batch vocab"]:
    """As `read_on`; returns the logits after the last of the new tokens."""
    return model.unembed(read_on(model, tokens, starts, cache, passage)[:, -1])


def read_on(
    model: CausalModel, tokens: Sequence[Sequence[int]], starts: Sequence[int], cache: Cache, passage: Passage | None = None
) -> Float[Tensor, "batch time d_features"]:
    """Reads as many new tokens in each row, which stand from `starts` on."""
    return read_at(model, tokens, [range(start, start + len(row)) for start, row in zip(starts, tokens, strict=True)], cache, passage)


def read_at(
    model: CausalModel, tokens: Sequence[Sequence[int]], places: Sequence[Sequence[int]], cache: Cache, passage: Passage | None = None,
    seen: Seen | None = None,
) -> Float[Tensor, "batch time d_features"]:
    """Reads as many new tokens in each row, each at a place of its own."""
    new, positions = torch.tensor(tokens, device=model.device), torch.tensor(places, device=model.device)  # (batch, time)
    return model.features(new, SequenceLayout(positions), cache, seen, passage)
