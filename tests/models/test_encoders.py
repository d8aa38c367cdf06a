"""What BERT, RoBERTa, ALBERT and ELECTRA say about configs, beside what `test_parity.py` proves of their numbers."""

from __future__ import annotations

import pytest
import torch
from tests.models.cases import ALBERT, BERT, ELECTRA, ROBERTA
from tests.models.test_parity import random_model, tokens_of
from torch.utils.flop_counter import FlopCounterMode

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import FAMILIES, AlbertConfig, BertConfig, ElectraConfig, save_hub
from bloomery.nn import SequenceLayout

transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
ALL = {"bert": BERT, "roberta": ROBERTA, "albert": ALBERT, "electra": ELECTRA}
BASE = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "initializer_range": 0.02,
}  # fmt: skip
PUBLISHED = {
    "bert": BASE | {"vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0},
    "roberta": BASE | {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1},
    "albert": BASE | {
        "vocab_size": 30000, "embedding_size": 128, "hidden_act": "gelu_new", "inner_group_num": 1, "num_hidden_groups": 1, "gap_size": 0,
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "net_structure_type": 0, "classifier_dropout_prob": 0.1,
    },
    "electra": BASE | {
        "vocab_size": 30522, "embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024,
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "summary_type": "first",
    },
}  # fmt: skip


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_configs_are_read_and_have_as_many_parameters_as_theirs(family):
    config = FAMILIES[family].from_hub(PUBLISHED[family])
    with torch.device("meta"):
        theirs = getattr(transformers, config.hub_architecture)(transformers.AutoConfig.for_model(family, **PUBLISHED[family]))
    assert config.n_params == theirs.num_parameters()
    assert config.max_seq_len == 512


@pytest.mark.parametrize("family", PUBLISHED)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "config.json has position_embedding_type='relative_key', which is not supported"),
        ({"is_decoder": True}, "config.json has is_decoder=True, which is not supported"),
        ({"tie_word_embeddings": False}, "config.json has tie_word_embeddings=False, which is not supported"),
        ({"hidden_act": "mish"}, "config.json has hidden_act='mish', which is not supported"),
        ({"hidden_size": None}, "config.json has no 'hidden_size', without which the model has no shape"),
    ],
)
def test_what_we_have_not_is_refused_by_name(family, changes, message):
    plain = {name: value for name, value in (PUBLISHED[family] | changes).items() if value is not None}
    with pytest.raises(DataError) as caught:
        FAMILIES[family].from_hub(plain)
    assert str(caught.value).startswith(message)


def test_another_summary_of_a_choice_is_refused():
    with pytest.raises(DataError, match="summary_type='mean', which is not supported; a ElectraConfig is built with 'first'"):
        ElectraConfig.from_hub(PUBLISHED["electra"] | {"summary_type": "mean"})


def test_groups_of_different_layers_are_refused():
    with pytest.raises(DataError, match="inner_group_num=2, which is not supported; a AlbertConfig is built with 1"):
        AlbertConfig.from_hub(PUBLISHED["albert"] | {"inner_group_num": 2})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BERT.replace(n_heads=5), "BertConfig.n_heads=5 does not divide d_model=24; 4 or 6 would"),
        (lambda: BERT.replace(activation="relu_squared"), "BertConfig.activation='relu_squared' has no name on the hub; gelu or"),
        (lambda: ALBERT.replace(n_distinct_layers=3), "AlbertConfig.n_distinct_layers=3 does not divide n_layers=4; 2 or 4 would"),
        (lambda: ALBERT.replace(d_embedding=24), "AlbertConfig.d_embedding=24 is d_model, and a map leads from one to the other"),
        (lambda: BERT.replace(parts=3), "BertConfig has no field 'parts'; did you mean 'n_parts'"),
    ],
)
def test_impossible_sizes_are_refused_with_the_nearest_remedy(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_sizes_left_out_follow_the_others():
    config = BertConfig(vocab_size=9, d_model=24, n_layers=1, n_heads=4)
    assert (config.d_ff, config.replace(d_model=48).d_ff) == (96, 192)


def test_shared_layers_cost_no_parameters():
    assert ALBERT.replace(n_layers=12).n_params == ALBERT.n_params


@pytest.mark.parametrize("config", ALL.values(), ids=ALL.keys())
def test_flops_are_those_that_torch_counts(config):
    model, ids, layout = config.build(0), tokens_of(config, 3, 16), SequenceLayout.rows(3, 16, causal=False)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(ids, layout)
    assert config.flops_per_token(16) == 3 * counter.get_total_flops() / ids.numel()


@pytest.mark.parametrize("config", ALL.values(), ids=ALL.keys())
def test_training_is_the_same_function_as_use(config):
    model, ids = random_model(config), tokens_of(config)
    layout = SequenceLayout.rows(*ids.shape, causal=False)
    assert torch.equal(model.train()(ids, layout), model.eval()(ids, layout))


def test_places_before_the_first_are_not_used():
    config = ROBERTA.replace(padding_id=3)
    model, ids = random_model(config), tokens_of(config)
    model(ids, SequenceLayout.rows(*ids.shape, causal=False)).square().sum().backward()
    used = model.places.table.weight.grad.abs().sum(-1) > 0
    assert used.tolist() == [False] * 4 + [True] * 33 + [False] * 31


def test_a_tokenizer_with_another_id_of_padding_is_refused(tmp_path):
    save_hub(random_model(ROBERTA), ROBERTA, tmp_path, {"pad_token_id": 1})
    with pytest.raises(ConfigError, match="RobertaConfig were made for pad_token_id=1, and the tokenizer has 0"):
        save_hub(random_model(ROBERTA), ROBERTA, tmp_path, {"pad_token_id": 0})
