from __future__ import annotations

import pytest
import torch
from tests.models.cases import ELECTRA
from tests.models.test_parity import gradients, random_model, theirs_of, tokens_of
from torch.nn.functional import binary_cross_entropy_with_logits

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.models import ElectraPairConfig, config_from_plain, read_model, save_hub, write_model
from bloomery.models.checkpoint import whole_config
from bloomery.nn import SequenceLayout
from bloomery.objectives import CausalLM, Models

pytest.importorskip("transformers", reason="parity needs the transformers library")
PAIR = ElectraPairConfig(generator=ELECTRA.replace(d_model=12, n_heads=2, d_ff=20), discriminator=ELECTRA)
SHARED = ("word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias")
LAYOUT = SequenceLayout.rows(2, 33, causal=False)


def test_both_are_theirs_and_share_their_embeddings(tmp_path):
    model, ids = random_model(PAIR), tokens_of(PAIR)
    generator = theirs_of(model.generator, PAIR.generator, tmp_path / "generator")
    discriminator = theirs_of(model.discriminator, PAIR.judge, tmp_path / "discriminator")
    with torch.no_grad():
        torch.testing.assert_close(model(ids, LAYOUT), generator(input_ids=ids).logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.replaced(ids, LAYOUT), discriminator(input_ids=ids).logits, atol=1e-5, rtol=0)
    embeddings = [dict(one.electra.embeddings.named_parameters()) for one in (generator, discriminator)]
    assert set(embeddings[0]) == set(SHARED)
    assert all(torch.equal(embeddings[0][name], embeddings[1][name]) for name in SHARED)
    shared = sum(weight.numel() for weight in embeddings[0].values())
    assert PAIR.n_params == generator.num_parameters() + discriminator.num_parameters() - shared


def test_gradients_of_the_joint_loss_are_theirs_and_add_up_in_the_embeddings(tmp_path):
    model, ids = random_model(PAIR), tokens_of(PAIR)
    generator = theirs_of(model.generator, PAIR.generator, tmp_path / "generator")
    discriminator = theirs_of(model.discriminator, PAIR.judge, tmp_path / "discriminator")
    replaced = (torch.rand(ids.shape, generator=torch.Generator().manual_seed(3)) < 0.3).float()
    (summed,) = CausalLM()(Models(model), Batch(ids, ids, torch.ones(ids.shape), LAYOUT))
    loss = summed.total / summed.weight + 50 * binary_cross_entropy_with_logits(model.replaced(ids, LAYOUT), replaced)
    their_loss = generator(input_ids=ids, labels=ids).loss + 50 * discriminator(input_ids=ids, labels=replaced).loss
    torch.testing.assert_close(loss, their_loss, atol=1e-4, rtol=0)
    loss.backward()
    their_loss.backward()
    others = [
        gradients(one, lambda folder, one=one: one.save_pretrained(folder, safe_serialization=True), tmp_path / name)
        for one, name in ((generator, "theirs 1"), (discriminator, "theirs 2"))
    ]
    for ours, config, theirs, other in (
        (model.generator, PAIR.generator, *others), (model.discriminator, PAIR.judge, *reversed(others)),
    ):  # fmt: skip
        mine = gradients(ours, lambda folder, ours=ours, config=config: save_hub(ours, config, folder), tmp_path / config.kind())
        for name, gradient in mine.items():
            expected = theirs[name] + other[name] if name.startswith("electra.embeddings.") else theirs[name]
            torch.testing.assert_close(gradient, expected, atol=5e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_it_is_read_back_as_it_was_written(tmp_path):
    model = random_model(PAIR)
    write_model(tmp_path, PAIR, model)
    config, back = read_model(tmp_path)
    assert config == PAIR == config_from_plain(whole_config(PAIR))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))
    assert back.discriminator.base.embedding is back.generator.embedding


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_embedding": 12}, "ElectraPairConfig.generator.d_embedding=10 is not the discriminator's d_embedding=12"),
        ({"vocab_size": 62}, "ElectraPairConfig.generator.vocab_size=61 is not the discriminator's vocab_size=62"),
        ({"max_seq_len": 32}, "ElectraPairConfig.generator.max_seq_len=64 is not the discriminator's max_seq_len=32"),
    ],
)
def test_embeddings_that_cannot_be_shared_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        PAIR.replace(discriminator=ELECTRA.replace(**changes))


def test_operations_are_those_of_both():
    plain = ELECTRA.flops_per_token(10)
    head_and_transform = 6 * ELECTRA.d_embedding * (ELECTRA.vocab_size + ELECTRA.d_model)
    judged = plain - head_and_transform + 6 * ELECTRA.d_model * (ELECTRA.d_model + 1)
    assert PAIR.flops_per_token(10) == PAIR.generator.flops_per_token(10) + judged
