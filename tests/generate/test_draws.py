"""Drawing for many rows: each by its own stream, from the sampler's distribution, with true log-probabilities."""

import numpy as np
import torch

from bloomery.generate import Draws, Random

LOGITS = torch.randn(5, generator=torch.Generator().manual_seed(0))
PLAIN = Random()


def drawn(numbers, order, sampler=PLAIN, most=4):
    draws = Draws(sampler, 7, numbers, most)
    for _ in range(most):
        draws(LOGITS.expand(len(order), 5), order)
    return draws


def test_a_row_draws_the_same_whichever_rows_are_beside_it():
    together, alone = drawn([3, 8, 5], [2, 0, 1]), drawn([8], [0])
    assert together.tokens[1] == alone.tokens[0]
    assert together.logprobs[1] == alone.logprobs[0]
    assert len({tuple(tokens) for tokens in drawn(range(40), range(40)).tokens}) > 20


def test_tokens_are_of_the_samplers_distribution_and_know_their_probability():
    sampler = Random(temperature=0.7, top_k=3)
    p = sampler.probabilities(LOGITS[None])[0]
    draws = drawn(range(4000), range(4000), sampler, most=1)
    tokens = np.array(draws.tokens)[:, 0]
    assert np.abs(np.bincount(tokens, minlength=5) / 4000 - p.numpy()).max() < 0.03
    assert set(tokens) == set(p.nonzero().flatten().tolist())
    assert torch.allclose(torch.tensor(draws.logprobs)[:, 0], p[torch.from_numpy(tokens)].log(), atol=1e-6)
