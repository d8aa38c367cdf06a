from __future__ import annotations

import numpy as np
import torch

from bloomery.evals.likelihood import told_tokens
from bloomery.models import LlamaConfig
from bloomery.nn import SequenceLayout


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
    told = told_tokens(model, rows)
    assert told.tokens.tolist() == tokens
    assert told.rows.tolist() == places
    np.testing.assert_allclose(told.logprobs, expected, atol=1e-5)
