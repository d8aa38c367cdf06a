"""How likely a model finds what it reads: tokens of rows, continuations of contexts, whole texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bloomery.models import Model
from bloomery.nn import SequenceLayout
from bloomery.nn.chunked import logits_by_chunk
from bloomery.text.tokenizer import Tokenizer

PAD = 0  # any valid id: no token sees it
TOKENS_AT_ONCE = 4096


class Told(NamedTuple):
    """Tokens that were told from those before them, row by row.

    Attributes:
        logprobs: of each, in nats.
        tokens: their ids.
        rows: where they stand.
        likeliest: whether each is the model's first choice.
    """

    logprobs: Float[Tensor, " n"]
    tokens: Int[Tensor, " n"]
    rows: Int[Tensor, " n"]
    likeliest: Bool[Tensor, " n"]


class Pair(NamedTuple):
    """Token ids of a context, at least one, and of what may follow it."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Likelihood(NamedTuple):
    """log p of what follows a context, in nats, and whether each of its tokens is the model's first choice."""

    logprob: float
    likeliest: bool


def parted(tokenizer: Tokenizer, context: str, continuation: str) -> Pair:
    """A context and what may follow it as ids: those of the whole text, parted where those of the context end. Texts begin with `<|begin|>`.

    Blanks at the end of the context count as the beginning of what follows, where most tokens have them.

    Source: Gao et al. (2021), lm-evaluation-harness, `TemplateLM._encode_pair`.
    """
    bare = context.rstrip()
    before, whole = tokenizer.encode_batch([bare, context + continuation])
    return Pair((tokenizer.begin, *before), tuple(whole[len(before) :]))


def fitted(pair: Pair, longest: int) -> Pair:
    """A pair of at most so many tokens: the beginning of the context is cut, and where that is not enough, of what follows."""
    over = max(0, len(pair.before) + len(pair.after) - longest)
    return pair if not over else Pair(pair.before[over:] or pair.before[-1:], pair.after[-(longest - 1) :])


def likelihoods(
    model: Model, pairs: Sequence[Pair], tokens_at_once: int = TOKENS_AT_ONCE, progress: Callable[[int], object] = lambda done: None
) -> list[Likelihood]:
    """How likely each context makes what follows it.

    Each pair is asked once however often it is there; those that begin alike are read beside each other, and what they share once (see
    `nn.once`). What does not fit is cut, as `fitted` has it.

    Args:
        model: a decoder, in the state in which models are asked.
        pairs: in any order.
        tokens_at_once: padded, of a batch; changes nothing but speed and memory.
        progress: told how many different pairs are done.
    """
    fitting = [fitted(pair, model.config.max_seq_len) for pair in pairs]
    found: dict[Pair, Likelihood] = {}
    for part in _batches(set(fitting), tokens_at_once):
        rows = [((*pair.before, *pair.after), [False] * len(pair.before) + [True] * len(pair.after)) for pair in part]
        told = told_tokens(model, rows, str(model.device), alike=True)
        where = told.rows.cpu()
        totals = torch.zeros(len(part), dtype=torch.float64).index_add_(0, where, told.logprobs.double().cpu())
        missed = torch.zeros(len(part)).index_add_(0, where, (~told.likeliest).float().cpu())
        found |= {pair: Likelihood(total, miss == 0) for pair, total, miss in zip(part, totals.tolist(), missed.tolist(), strict=True)}
        progress(len(found))
    return [found[pair] for pair in fitting]


def _batches(pairs: set[Pair], tokens_at_once: int) -> Iterator[list[Pair]]:
    """Pairs of one context together, and contexts of about one length."""
    longest: dict[tuple[int, ...], int] = {}
    for pair in pairs:
        longest[pair.before] = max(longest.get(pair.before, 0), len(pair.before) + len(pair.after))
    part, width = list[Pair](), 0
    for pair in sorted(pairs, key=lambda pair: (longest[pair.before], *pair)):
        width = max(width, longest[pair.before])
        if part and (len(part) + 1) * width > tokens_at_once:
            yield part
            part, width = [], longest[pair.before]
        part.append(pair)
    if part:
        yield part


def told_texts(model: Model, tokenizer: Tokenizer, texts: Sequence[str], progress: Callable[[int], object] = lambda done: None) -> list[float]:
    """log p of whole texts in nats, each token told once; `<|begin|>` stands before them, their end is not told. Texts longer than the model
    reads are told in rows that follow each other, each from the last token of the one before."""
    longest, rows = model.config.max_seq_len, list[tuple[int, Pair]]()
    for number, ids in enumerate(tokenizer.encode_batch(texts)):
        ids = [tokenizer.begin, *ids]
        for start in range(0, len(ids) - 1, longest - 1):
            rows.append((number, Pair((ids[start],), tuple(ids[start + 1 : start + longest]))))
    totals = [0.0] * len(texts)
    for (number, _), found in zip(rows, likelihoods(model, [pair for _, pair in rows], progress=progress), strict=True):
        totals[number] += found.logprob
    return totals


@torch.no_grad()
def told_tokens(
    model: Model, rows: Sequence[tuple[Sequence[int] | np.ndarray, Sequence[bool] | np.ndarray]], device: str = "cpu", alike: bool = False
) -> Told:
    """Reads rows beside each other, as far as the model reads.

    Args:
        model: as it is.
        rows: ids, and which of them are to be told; the first one of a row never is.
        device: of the model.
        alike: whether rows that begin alike follow each other; see `SequenceLayout.alike`.
    """
    width = min(max(len(ids) for ids, _ in rows), model.config.max_seq_len)
    tokens = torch.full((len(rows), width), PAD, dtype=torch.long)
    wanted = torch.zeros_like(tokens, dtype=torch.bool)
    for i, (ids, mask) in enumerate(rows):
        read = min(len(ids), width)
        tokens[i, :read] = torch.as_tensor(ids[:read])
        wanted[i, : read - 1] = torch.as_tensor(mask[1:read], dtype=torch.bool)  # place t predicts token t + 1
    tokens, wanted = tokens.to(device), wanted.to(device)
    lengths = torch.tensor([len(ids) for ids, _ in rows], device=device)
    positions = torch.arange(width, device=device).expand_as(tokens)
    features = model.features(tokens, SequenceLayout(positions, (positions < lengths[:, None]).long(), alike=alike))[wanted]
    targets = tokens.roll(-1, dims=1)[wanted]
    logprobs, likeliest = [features.new_zeros(0, dtype=torch.float32)], [wanted.new_zeros(0)]
    for part, logits in logits_by_chunk(model.head, features):
        its = logits.float().log_softmax(-1).gather(-1, targets[part, None])[:, 0]
        logprobs.append(its)
        likeliest.append(logits.argmax(-1) == targets[part])
    return Told(torch.cat(logprobs), targets, wanted.nonzero()[:, 0], torch.cat(likeliest))
