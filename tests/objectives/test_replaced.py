"""Replaced-token detection: its samples, what counts as replaced, its two terms, and the loss of transformers' discriminator."""

from dataclasses import replace

import pytest
import torch
from tests.contracts.objective_examples import ENCODER, PAIR, masked

from bloomery.core.errors import ConfigError
from bloomery.data.tasks import MaskedTokens, NextToken, SentenceOrder
from bloomery.models.hub import save_hub
from bloomery.nn import cross_entropy
from bloomery.objectives import CausalLM, Models, Reading, ReplacedTokens
from bloomery.objectives.replaced import samples


@pytest.fixture
def model():
    return PAIR.build(seed=0).eval()


def read(model, batch):
    """The samples at every place, and the text that the discriminator reads."""
    features = Reading(Models(model), batch).features().flatten(0, 1)
    found = samples(model.head, features, batch.draws.flatten()).view_as(batch.tokens)
    return found, torch.where(batch.loss_weight > 0, found, batch.targets)


def test_samples_are_distributed_as_the_generator_says(model):
    features = torch.randn(1, model.head.matrix.shape[1]).expand(20_000, -1)
    with torch.no_grad():
        model.head.bias.copy_(torch.randn(32))
        wanted = model.head(features[0]).softmax(-1)
    found = samples(model.head, features, torch.rand(20_000, generator=torch.Generator().manual_seed(0)))
    shares = torch.bincount(found, minlength=32) / 20_000
    assert (shares - wanted).abs().max() < 5 * (0.25 / 20_000) ** 0.5
    assert samples(model.head, features[:2], torch.tensor([0.0, 1 - 2**-24])).tolist()[0] == 0


def test_chunks_do_not_change_samples(model, monkeypatch):
    features = torch.randn(200, model.head.matrix.shape[1])
    draws = torch.rand(200)
    whole = samples(model.head, features, draws)
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", 1)  # chunks of 64 places
    assert torch.equal(samples(model.head, features, draws), whole)


def test_a_sample_is_a_function_of_its_row_and_draw(model):
    whole, batch = read(model, masked())[0], masked()
    parts = torch.cat([read(model, part)[0] for part in batch.split(2)])
    assert torch.equal(parts, whole)
    other = read(model, replace(batch, draws=batch.draws.flip(1)))[0]
    assert not torch.equal(other, whole)


def test_both_terms_are_by_the_book(model):
    batch = masked()
    generator, discriminator = ReplacedTokens(discriminator_weight=7.0)(Models(model), batch)
    (alone,) = CausalLM()(Models(model), batch)
    torch.testing.assert_close(generator.total, alone.total)
    _, text = read(model, batch)
    replaced, logits = text != batch.targets, model.replaced(text, batch.layout)
    real = batch.layout.segments > 0
    probability = logits.sigmoid()
    wanted = -(torch.where(replaced, probability, 1 - probability)[real]).log().sum()
    torch.testing.assert_close(discriminator.total, 7 * wanted, rtol=1e-4, atol=1e-4)
    assert discriminator.weight == real.sum()
    assert discriminator.metrics["replaced"] == (replaced & real).sum()
    assert discriminator.metrics["detected"] == ((logits > 0) == replaced)[real].sum()


def test_a_sample_equal_to_the_original_is_original(model):
    batch = masked()
    _, text = read(model, batch)
    lucky = replace(batch, targets=torch.where(batch.loss_weight > 0, text, batch.targets))
    assert ReplacedTokens()(Models(model), lucky)[1].metrics["replaced"] == 0


def test_no_gradient_goes_through_the_samples(model):
    _, discriminator = ReplacedTokens()(Models(model), masked())
    discriminator.total.backward()
    own = {name for name, p in model.generator.named_parameters() if p.grad is not None and p.grad.any()}
    assert own <= {name for name, _ in model.generator.named_parameters() if "embedding" in name or name.startswith(("places", "parts"))}
    assert own


def test_the_discriminator_loss_is_theirs(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    batch = masked()
    _, discriminator = ReplacedTokens(discriminator_weight=1.0)(Models(model), batch)
    _, text = read(model, batch)
    row = 3  # one document and padding
    save_hub(model.discriminator, PAIR.judge, tmp_path)
    theirs = transformers.ElectraForPreTraining.from_pretrained(tmp_path, attn_implementation="eager").eval()
    part = next(iter(replace(batch, first_row=0).split(5)))
    (alone,) = [ReplacedTokens(discriminator_weight=1.0)(Models(model), p)[1] for p in part.split(1)][row : row + 1]
    labels = (text != batch.targets)[row : row + 1].long()
    loss = theirs(input_ids=text[row : row + 1], attention_mask=(batch.layout.segments > 0)[row : row + 1].long(), labels=labels).loss
    torch.testing.assert_close(alone.total / alone.weight, loss, atol=1e-5, rtol=0)
    assert discriminator.weight > alone.weight


def test_what_does_not_fit_is_refused():
    ReplacedTokens().check_training(PAIR, MaskedTokens(keep=0, random=0))
    ReplacedTokens().check_training(PAIR, SentenceOrder())
    with pytest.raises(ConfigError, match="a BertConfig is no such pair; take an ElectraPairConfig"):
        ReplacedTokens().check_training(ENCODER, MaskedTokens())
    with pytest.raises(ConfigError, match="NextToken hides none"):
        ReplacedTokens().check_training(PAIR, NextToken())
