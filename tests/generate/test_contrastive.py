"""Contrastive search as its paper defines it, reading everything again for each token that is tried."""

from __future__ import annotations

import pytest
import torch
from tests.generate.peers import END, MODEL, PROMPTS

from bloomery.generate import Contrastive, search
from bloomery.nn import SequenceLayout


@torch.no_grad()
def features(ids: list[int]) -> torch.Tensor:
    return MODEL.features(torch.tensor([ids]), SequenceLayout.rows(1, len(ids)))[0]


@torch.no_grad()
def by_definition(prompt: list[int], k: int, alpha: float, new: int) -> list[int]:
    """Su et al. (2022), equation 5."""
    text = list(prompt)
    while len(text) < len(prompt) + new:
        before = features(text)
        p = MODEL.unembed(before[-1]).softmax(-1)
        worth = {}
        for v in p.topk(k).indices.tolist():
            h = features([*text, v])[-1]
            worth[v] = (1 - alpha) * float(p[v]) - alpha * max(float(torch.cosine_similarity(h, h_j, dim=0)) for h_j in before)
        text.append(max(worth, key=worth.__getitem__))
        if text[-1] == END:
            return text[len(prompt) : -1]
    return text[len(prompt) :]


@pytest.mark.parametrize(("k", "alpha", "n"), [
    (4, 0.6, 3), (3, 0.1, 3), pytest.param(5, 0.6, 210, marks=pytest.mark.slow), pytest.param(4, 0.3, 210, marks=pytest.mark.slow),
])  # fmt: skip
def test_it_is_the_published_definition(k, alpha, n):
    told = [one[0].tokens for one in search(Contrastive(top_k=k, alpha=alpha), MODEL, PROMPTS[:n], frozenset({END}), 8)]
    assert told == [by_definition(prompt, k, alpha, 8) for prompt in PROMPTS[:n]]


def test_without_the_penalty_it_is_greedy_and_with_it_is_not():
    greedy, free, held = (
        [one[0].tokens for one in search(by, MODEL, PROMPTS[:20], frozenset({END}), 12)]
        for by in (Contrastive(top_k=1, alpha=0.9), Contrastive(top_k=5, alpha=0.0), Contrastive(top_k=5, alpha=0.9))
    )
    assert greedy == free != held
