from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.evals.likelihood import Pair, fitted, likelihoods, told_tokens
from bloomery.models import LlamaConfig
from bloomery.nn import SequenceLayout
from tests.evals.small import MODEL, TOKENIZER, told


def test_tokens_read_beside_each_other_are_told_as_by_themselves_and_no_further_than_the_model_reads():
    model = LlamaConfig(vocab_size=64, d_model=32, n_layers=2, n_heads=2, max_seq_len=12).build(seed=1).eval()
    rng = np.random.default_rng(0)
    rows = [(rng.integers(1, 64, n).tolist(), (rng.random(n) < 0.5).tolist()) for n in (5, 12, 20, 2, 9)]
    expected, tokens, places = [], [], []
    for number, (ids, mask) in enumerate(rows):
        with torch.no_grad():
            logprobs = model(torch.tensor([ids[:12]]), SequenceLayout.rows(1, min(12, len(ids)))).log_softmax(-1)[0]
        for place in range(1, min(12, len(ids))):
            if mask[place]:
                expected.append(float(logprobs[place - 1, ids[place]]))
                tokens.append(ids[place])
                places.append(number)
    for alike in (False, True):
        found = told_tokens(model, rows, alike=alike)
        assert found.tokens.tolist() == tokens
        assert found.rows.tolist() == places
        np.testing.assert_allclose(found.logprobs, expected, atol=1e-5)


def test_each_continuation_is_told_as_if_alone_however_many_begin_alike():
    rng = np.random.default_rng(0)
    shared = tuple(rng.integers(6, 60, 20).tolist())
    sizes = [(rng.integers(0, 20), rng.integers(1, 9)) for _ in range(40)]
    pairs = [Pair((TOKENIZER.begin, *shared[:size]), tuple(rng.integers(6, 60, more).tolist())) for size, more in sizes]
    pairs += [pairs[3], pairs[3], Pair((TOKENIZER.begin, *shared * 8), pairs[0].after), Pair((TOKENIZER.begin,), shared * 8)]
    seen = []
    found = likelihoods(MODEL, pairs, tokens_at_once=200, progress=seen.append)
    assert seen[-1] == len(set(pairs))
    for pair, one in zip(pairs, found, strict=True):
        before, after = fitted(pair, 96)
        assert len(before) + len(after) <= 96
        assert one.logprob == pytest.approx(told(list(before), list(after)), abs=2e-4)
        with torch.no_grad():
            ids = torch.tensor([[*before, *after]])
            first = MODEL(ids, SequenceLayout.rows(*ids.shape))[0].argmax(-1)
        assert one.likeliest == (first[len(before) - 1 : -1].tolist() == list(after))
    assert [one.logprob for one in likelihoods(MODEL, pairs)] == pytest.approx([one.logprob for one in found], abs=2e-4)


def test_what_does_not_fit_is_cut_at_the_beginning_of_the_context_first():
    assert fitted(Pair((1, 2, 3), (4, 5)), 5) == Pair((1, 2, 3), (4, 5))
    assert fitted(Pair((1, 2, 3), (4, 5)), 4) == Pair((2, 3), (4, 5))
    assert fitted(Pair((1, 2, 3), (4, 5, 6, 7)), 3) == Pair((3,), (6, 7))
