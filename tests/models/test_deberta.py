"""DeBERTa: what its parity tests don't say. Published sizes and configs, what is refused, and pairs that share embeddings but no gradients."""

from __future__ import annotations

import pytest
import torch
from tests.models.cases import DEBERTA, ELECTRA

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import DebertaConfig, ElectraPairConfig, GradientDisentangledSharing, config_from_plain, read_model, save_hub, write_model
from bloomery.models.checkpoint import whole_config
from bloomery.nn import SequenceLayout

V3_BASE = {
    "model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 512, "relative_attention": True, "position_buckets": 256,
    "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1,
    "position_biased_input": False, "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 0, "vocab_size": 128100,
}  # fmt: skip
"""config.json of the published base model."""


def test_the_published_config_is_our_default():
    config = DebertaConfig.from_hub(V3_BASE)
    assert config == DebertaConfig(vocab_size=128100, d_model=768, n_layers=12, n_heads=12)
    body = config.n_params - config.vocab_size * 768
    assert 85e6 < body < 87e6  # "86M backbone parameters"


@pytest.mark.parametrize(("changes", "named"), [
    ({"conv_kernel_size": 3}, "conv_kernel_size=3"),
    ({"position_biased_input": True}, "position_biased_input=True"),
    ({"position_biased_input": None}, "position_biased_input"),
    ({"relative_attention": False}, "relative_attention=False"),
    ({"embedding_size": 128}, "embedding_size=128"),
    ({"attention_head_size": 32}, "attention_head_size=32"),
    ({"pos_att_type": "p2p"}, "pos_att_type='p2p'"),
    ({"pos_att_type": []}, r"pos_att_type=\[\]"),
    ({"norm_rel_ebd": "layer_norm|other"}, "norm_rel_ebd"),
    ({"hidden_act": "mish"}, "hidden_act='mish'"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
])  # fmt: skip
def test_configs_that_we_do_not_have_are_refused_by_name(changes, named):
    plain = {name: value for name, value in (V3_BASE | changes).items() if value is not None}
    with pytest.raises(DataError, match=named):
        DebertaConfig.from_hub(plain)


@pytest.mark.parametrize("asked", ["p2c|c2p", "c2p | p2c", ["c2p", "p2c"]])
def test_terms_are_read_however_they_are_written(asked):
    assert DebertaConfig.from_hub(V3_BASE | {"pos_att_type": asked}).terms == "both"


@pytest.mark.parametrize(("fields", "named"), [
    ({"n_heads": 5}, "n_heads=5 does not divide d_model=24"),
    ({"n_buckets": 7}, "n_buckets=7 is odd"),
    ({"n_buckets": 126, "max_distance": 64}, "max_distance=64 is no farther"),
    ({"activation": "relu_squared"}, "activation='relu_squared' has no name on the hub"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(fields, named):
    with pytest.raises(ConfigError, match=named):
        DEBERTA.replace(**fields)


def pair_of(encoder, **changes) -> ElectraPairConfig:
    return ElectraPairConfig(generator=encoder.replace(**changes), discriminator=encoder, sharing=GradientDisentangledSharing())


PAIR = pair_of(DEBERTA, n_layers=1)
every_pair = pytest.mark.parametrize("pair", [PAIR, pair_of(ELECTRA, d_model=12, n_heads=2)], ids=["deberta", "electra"])
IDS, LAYOUT = torch.arange(5, 35).view(2, 15), SequenceLayout.rows(2, 15, causal=False)


@every_pair
def test_at_first_both_know_the_same_of_tokens(pair):
    model = pair.build(0)
    assert torch.equal(model.discriminator.base.embedding(IDS), model.generator.embedding(IDS))
    assert not model.discriminator.base.embedding.weight.any()


@every_pair
def test_each_loss_trains_a_table_of_its_own(pair):
    model = pair.build(0)
    table, difference = model.generator.embedding.weight, model.discriminator.base.embedding.weight
    model.replaced(IDS, LAYOUT).square().sum().backward()
    assert difference.grad[5:35].any(dim=1).all()
    assert not [name for name, parameter in model.generator.named_parameters() if parameter.grad is not None]
    model.zero_grad(set_to_none=True)
    model(IDS, LAYOUT).square().sum().backward()
    assert table.grad.any()
    trained = [name for name, parameter in model.discriminator.named_parameters() if parameter.grad is not None]
    assert trained == ["base.embedding.of.weight"]


@every_pair
def test_what_the_generator_learns_of_tokens_the_discriminator_knows(pair):
    model = pair.build(0)
    before = model.replaced(IDS, LAYOUT)
    with torch.no_grad():
        model.generator.embedding.weight.mul_(-1.0)
    assert not torch.allclose(model.replaced(IDS, LAYOUT), before, atol=1e-4)


def trained(pair) -> torch.nn.Module:
    model = pair.build(0)
    for i, parameter in enumerate(model.parameters()):
        parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.2
    return model


@every_pair
def test_with_the_difference_merged_the_discriminator_is_a_plain_model(pair, tmp_path):
    model = trained(pair)
    judge = model.judge()
    assert judge.config == pair.judge
    assert type(judge.base.embedding) is torch.nn.Embedding
    assert torch.equal(judge.scores(IDS, LAYOUT)["replaced"][:, :, 0], model.replaced(IDS, LAYOUT))
    assert sum(p.numel() for p in judge.parameters()) == pair.judge.n_params
    write_model(tmp_path, judge.config, judge)
    _, back = read_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(judge.parameters(), back.parameters(), strict=True))


def test_its_states_are_those_of_the_library(tmp_path):
    """The merged discriminator without its head, read by transformers as a plain DeBERTa."""
    transformers = pytest.importorskip("transformers")
    judge = trained(PAIR).judge()
    bare = judge.config.replace(heads=()).build(0)
    weights = dict(judge.named_parameters())
    with torch.no_grad():
        for name, parameter in bare.named_parameters():
            parameter.copy_(weights[name])
    save_hub(bare, bare.config, tmp_path)
    theirs = transformers.DebertaV2Model.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(bare.hidden(IDS, LAYOUT), theirs(input_ids=IDS).last_hidden_state, atol=1e-5, rtol=0)


@every_pair
def test_a_pair_is_counted_and_read_back(pair, tmp_path):
    model = trained(pair)
    assert pair.n_params == sum(p.numel() for p in model.parameters())
    assert pair.n_params == pair.generator.n_params + pair.judge.n_params
    write_model(tmp_path, pair, model)
    read, back = read_model(tmp_path)
    assert read == pair == config_from_plain(whole_config(pair)) == config_from_plain(pair.identity())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


@pytest.mark.parametrize(("make", "named"), [
    (lambda: pair_of(DEBERTA, d_model=12), "generator.d_model=12 is not the discriminator's d_model=24"),
    (lambda: pair_of(DEBERTA, vocab_size=60), "generator.vocab_size=60"),
    (lambda: pair_of(ELECTRA, d_embedding=12), "generator.d_embedding=12"),
    (lambda: ElectraPairConfig(generator=ELECTRA, discriminator=DEBERTA), "take two of one family"),
])  # fmt: skip
def test_pairs_that_cannot_share_are_refused(make, named):
    with pytest.raises(ConfigError, match=named):
        make()
