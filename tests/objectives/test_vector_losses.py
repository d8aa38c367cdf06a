"""Losses of vectors beside their closed forms and, where it is there, the library that has them; and that no row looks into another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch, Labels
from bloomery.data.tasks import BothWays, SentenceOrder, TellLabels
from bloomery.models import BertConfig, LlamaConfig, RegressionConfig, SimilarityConfig, TaskConfig
from bloomery.nn import LastPoolingConfig, MeanPoolingConfig
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import CoSENT, CosineSquaredError, InfoNCE, Models

SIZES = {"vocab_size": 40, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 24, "max_seq_len": 8}
ENCODER = TaskConfig(base=BertConfig(**SIZES), heads=(SimilarityConfig(name="near"), SimilarityConfig(name="far", normalise=False)))
DECODER = TaskConfig(base=LlamaConfig(**SIZES), heads=(SimilarityConfig(name="near", pooling=LastPoolingConfig()),))
MODELS = {"encoder": ENCODER, "decoder": DECODER}


def rows_of(rows, seed=0, causal=False) -> Batch:
    """Rows of documents of 1 to 6 tokens, each row being lists of such as belong together with a label; the rest is padding."""
    rng, time = np.random.default_rng(seed), 64
    tokens, segments = torch.zeros(len(rows), time, dtype=torch.long), torch.zeros(len(rows), time, dtype=torch.long)
    targets, weight = torch.zeros(len(rows), time), torch.zeros(len(rows), time)
    for r, groups in enumerate(rows):
        place = number = 0
        for label, documents in groups:
            targets[r, place], weight[r, place] = label, 1
            for document in documents:
                ids = document or rng.integers(1, 40, int(rng.integers(1, 7))).tolist()
                number += 1
                tokens[r, place : place + len(ids)], segments[r, place : place + len(ids)] = torch.tensor(ids), number
                place += len(ids)
        assert place <= time
    layout = SequenceLayout.packed(segments, causal=causal)
    layout = replace(layout, positions=layout.positions * (segments > 0))  # as `TellLabels` has it: padding may be longer than a model reads
    return Batch(tokens, tokens, torch.zeros_like(weight), layout, labels={name: Labels(targets, weight) for name in ("near", "far")})


def matches(*sizes):
    """A row of texts with so many candidates each."""
    return [(n, [None] * (n + 1)) for n in sizes]


def vectors(model, batch, head="near"):
    """Each document's vector by itself, row by row."""
    found = []
    for row in range(len(batch)):
        segments = batch.layout.segments[row]
        of_row = [batch.tokens[row][segments == s][None] for s in range(1, int(segments.max()) + 1)]
        layouts = [SequenceLayout.rows(*ids.shape, causal=batch.layout.causal) for ids in of_row]
        found.append(torch.cat([model.scores(ids, layout)[head][:, 0] for ids, layout in zip(of_row, layouts, strict=True)]))
    return found


def term(objective, model, batch):
    (one,) = objective(Models(model), batch)
    return one


@pytest.mark.parametrize("kind", MODELS)
def test_the_right_one_is_chosen_among_all_of_the_row_or_its_own(kind):
    model = MODELS[kind].build(seed=0).eval()
    batch = rows_of([matches(1, 3, 1), matches(2, 2)], causal=kind == "decoder")
    starts = [[0, 2, 6], [0, 3]]
    sizes = [[1, 3, 1], [2, 2]]
    row_loss, own_loss, right = 0.0, 0.0, 0
    for of_row, begins, counts in zip(vectors(model, batch), starts, sizes, strict=True):
        candidates = [i for i in range(len(of_row)) if i not in begins]
        for begin, count in zip(begins, counts, strict=True):
            near = of_row @ of_row[begin] / 0.1
            row_loss += F.cross_entropy(near[candidates][None], torch.tensor([candidates.index(begin + 1)]))
            own_loss += F.cross_entropy(near[begin + 1 : begin + 1 + count][None], torch.tensor([0]))
            right += int(near[candidates].argmax()) == candidates.index(begin + 1)
    found = term(InfoNCE(head="near", temperature=0.1), model, batch)
    torch.testing.assert_close(found.total, row_loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.metrics["near/nll"], row_loss.detach(), atol=1e-5, rtol=1e-5)
    assert (found.weight, found.metrics["near/right"]) == (5, right)
    torch.testing.assert_close(term(InfoNCE(head="near", temperature=0.1, among="own"), model, batch).total, own_loss, atol=1e-5, rtol=1e-5)


def test_what_reads_as_the_right_one_does_is_not_held_against_it():
    model = ENCODER.build(seed=0).eval()
    same, other = [5, 6, 7], [8, 9]
    batch = rows_of([[(1, [[1], same]), (1, [[2, 3], same]), (1, [[4], other])]])
    (of_row,) = vectors(model, batch)
    near = of_row[[0, 2, 4]] @ of_row[[1, 5]].T / 0.05
    expected = F.cross_entropy(near, torch.tensor([0, 0, 1]), reduction="none")
    expected[2] = F.cross_entropy((of_row[[1, 3, 5]] @ of_row[4] / 0.05)[None], torch.tensor([2]))  # for it, both copies are wrong
    torch.testing.assert_close(term(InfoNCE(head="near"), model, batch).total, expected.sum(), atol=1e-5, rtol=1e-5)


def graded(scores):
    """A row of pairs with labels."""
    return [(score, [None, None]) for score in scores]


@pytest.mark.parametrize("kind", MODELS)
def test_cosent_and_the_squared_error_are_their_closed_forms_row_by_row(kind):
    model, labels = MODELS[kind].build(seed=1).eval(), ([0.1, 0.9, 0.5, 0.5], [1.0, 0.0])
    batch = rows_of([graded(of_row) for of_row in labels], seed=1, causal=kind == "decoder")
    cosent, squared = 0.0, 0.0
    for of_row, scores in zip(vectors(model, batch), labels, strict=True):
        cosines = F.cosine_similarity(of_row[::2], of_row[1::2])
        terms = [((cosines[j] - cosines[i]) / 0.2).exp() for i, a in enumerate(scores) for j, b in enumerate(scores) if a > b]
        cosent += len(scores) * torch.log(1 + sum(terms))
        squared += (cosines - torch.tensor(scores)).square().sum()
    torch.testing.assert_close(term(CoSENT(head="near", temperature=0.2), model, batch).total, cosent, atol=1e-5, rtol=1e-5)
    found = term(CosineSquaredError(head="near"), model, batch)
    torch.testing.assert_close(found.total, squared, atol=1e-5, rtol=1e-5)
    assert found.weight == 6


def test_vectors_of_any_length_are_compared_by_their_products():
    model = ENCODER.build(seed=0).eval()
    batch = rows_of([graded([0.5])])
    ((one, other),) = vectors(model, batch, "far")
    torch.testing.assert_close(term(CosineSquaredError(head="far"), model, batch).total, (one @ other - 0.5).square(), atol=1e-4, rtol=1e-5)


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=2), min_size=2, max_size=4), st.integers(0, 9))
def test_totals_and_gradients_are_the_same_however_rows_are_split(sizes, seed):
    model, batch = ENCODER.build(seed=0).eval(), rows_of([matches(*of_row) for of_row in sizes], seed=seed)
    for objective in (InfoNCE(head="near"), CoSENT(head="near"), CosineSquaredError(head="near")):
        gradients = []
        for rows in (len(batch), 1):
            model.zero_grad()
            total = sum(term(objective, model, part).total for part in batch.split(rows))
            total.backward()
            gradients.append([total.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_they_are_the_librarys_on_one_row():
    """Of sentence-transformers, whose batch is our row."""
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses", reason="parity needs sentence-transformers")

    class Fixed(torch.nn.Module):
        def forward(self, features):
            return features

    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(4, generator=rng)
    model = ENCODER.build(seed=2).eval()
    batch = rows_of([graded(scores.tolist())])
    (of_row,) = vectors(model, batch)
    sides = [{"sentence_embedding": side} for side in (of_row[::2], of_row[1::2])]
    theirs = library.CoSENTLoss(Fixed(), scale=20.0)(sides, scores)
    torch.testing.assert_close(term(CoSENT(head="near"), model, batch).total / 4, theirs, atol=1e-5, rtol=1e-5)
    theirs = library.CosineSimilarityLoss(Fixed())(sides, scores)
    torch.testing.assert_close(term(CosineSquaredError(head="near"), model, batch).total / 4, theirs, atol=1e-5, rtol=1e-5)
    batch = rows_of([matches(2, 2, 2)])
    (of_row,) = vectors(model, batch)
    sides = [{"sentence_embedding": of_row[i::3]} for i in range(3)]
    theirs = library.MultipleNegativesRankingLoss(Fixed(), scale=20.0)(sides, None)
    torch.testing.assert_close(term(InfoNCE(head="near"), model, batch).total / 3, theirs, atol=1e-5, rtol=1e-5)


def test_labels_of_another_kind_are_refused():
    numbers, wanted = TellLabels(numbers=("near",), then=BothWays()), TellLabels(matches=("near",), then=BothWays())
    InfoNCE(head="near").check_training(ENCODER, wanted)
    CoSENT(head="near").check_training(ENCODER, numbers)
    scored = TaskConfig(base=BertConfig(**SIZES), heads=(RegressionConfig(name="near", pooling=MeanPoolingConfig()),))
    for objective, model, task, rule in (
        (InfoNCE(head="near"), ENCODER, numbers, r"is not among the matches of TellLabels; take rows of Matches\(\) and TellLabels\(matches="),
        (CosineSquaredError(head="near"), ENCODER, wanted, r"is not among the numbers of TellLabels; take rows of Likeness"),
        (CoSENT(head="near"), scored, numbers, r"is a RegressionConfig; give a TaskConfig a SimilarityConfig"),
        (CoSENT(head="order"), ENCODER, SentenceOrder(), r"not among the heads of its TaskConfig"),
    ):
        with pytest.raises(ConfigError, match=rule):
            objective.check_training(model, task)
