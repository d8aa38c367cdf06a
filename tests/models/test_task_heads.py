"""Heads for tasks beside the transformers library's, on the same random weights; and what they make of packed rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.models.cases import ALBERT, BERT, DEBERTA, ELECTRA, LLAMA, ROBERTA, T5
from tests.models.test_parity import gradients_are_equal, random_model, theirs_of, tokens_of
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from bloomery.core.errors import ConfigError, DataError
from bloomery.data.batch import Batch
from bloomery.models import (
    MultipleChoiceConfig,
    RegressionConfig,
    ReplacedConfig,
    SequenceClassificationConfig,
    SimilarityConfig,
    TaskConfig,
    TokenClassificationConfig,
    config_from_plain,
    load_hub,
    save_hub,
)
from bloomery.models.checkpoint import whole_config
from bloomery.models.families import config_from_hub
from bloomery.nn import FirstPoolingConfig, LastPoolingConfig, MeanPoolingConfig, SequenceLayout
from bloomery.objectives import CausalLM, Models

transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")

GELU = FirstPoolingConfig(activation="gelu")
BASES = {"Bert": BERT, "Roberta": ROBERTA, "Albert": ALBERT, "Electra": ELECTRA, "DebertaV2": DEBERTA}
POOLINGS = dict.fromkeys(BASES, FirstPoolingConfig()) | {"Electra": GELU, "DebertaV2": GELU}
LABELS = {
    f"{name}ForSequenceClassification": TaskConfig(
        base=base,
        heads=(SequenceClassificationConfig(name="mood", n_labels=3, pooling=POOLINGS[name]),),
    )
    for name, base in BASES.items()
} | {
    "LlamaForSequenceClassification": TaskConfig(
        base=LLAMA, heads=(SequenceClassificationConfig(name="mood", n_labels=3, pooling=LastPoolingConfig(), bias=False),)
    ),
}
TOKENS = {
    f"{name}ForTokenClassification": TaskConfig(base=base, heads=(TokenClassificationConfig(name="word", n_labels=5),))
    for name, base in BASES.items()
}
CHOICES = {
    f"{name}ForMultipleChoice": TaskConfig(
        base=base, heads=(MultipleChoiceConfig(name="end", n_choices=3, pooling=POOLINGS[name]),)
    )
    for name, base in BASES.items()
}
TWO = SequenceClassificationConfig(name="next", n_labels=2)
OTHERS = {
    "BertForPreTraining": TaskConfig(base=BERT, heads=(TWO,), language_head=True),
    "AlbertForPreTraining": TaskConfig(base=ALBERT, heads=(TWO,), language_head=True),
    "ElectraForPreTraining": TaskConfig(base=ELECTRA, heads=(ReplacedConfig(),)),
    "ElectraForPreTraining with relu": TaskConfig(base=ELECTRA.replace(activation="relu"), heads=(ReplacedConfig(activation="relu"),)),
    "BertForSequenceClassification of numbers": TaskConfig(base=BERT, heads=(RegressionConfig(name="stars"),)),
}
HUB = LABELS | TOKENS | CHOICES | OTHERS
SEGMENTS = torch.tensor([[1] * 9 + [2] * 19 + [3] * 5, [1] * 15 + [2] * 14 + [0] * 4])
DOCUMENTS = ((0, 0, 9), (0, 9, 28), (0, 28, 33), (1, 0, 15), (1, 15, 29))


def cases(table):
    return pytest.mark.parametrize("config", table.values(), ids=table.keys())


def scores_of(model, ids, layout):
    with torch.no_grad():
        (scores,) = model.scores(ids, layout).values()
    return scores


@cases(LABELS)
def test_scores_of_packed_documents_are_theirs_of_each_alone(config, tmp_path):
    model, ids = random_model(config), tokens_of(config)
    theirs = theirs_of(model, config, tmp_path)
    theirs.config.pad_token_id = 0
    ours = scores_of(model, ids, SequenceLayout.packed(SEGMENTS, config.reads_forward))
    for row, start, end in DOCUMENTS:
        alone = theirs(input_ids=ids[row : row + 1, start:end]).logits[0]
        torch.testing.assert_close(ours[row, start], alone, atol=1e-5, rtol=0)
    whole = scores_of(model, ids, SequenceLayout.rows(*ids.shape, causal=config.reads_forward))
    torch.testing.assert_close(whole[:, 0], theirs(input_ids=ids).logits, atol=1e-5, rtol=0)


@cases(TOKENS | {name: config for name, config in OTHERS.items() if name.startswith("ElectraForPreTraining")})
def test_scores_of_tokens_are_theirs(config, tmp_path):
    model, ids = random_model(config), tokens_of(config)
    theirs = theirs_of(model, config, tmp_path)
    ours = scores_of(model, ids, SequenceLayout.packed(SEGMENTS, causal=False))
    for row, start, end in DOCUMENTS:
        alone = theirs(input_ids=ids[row : row + 1, start:end]).logits[0].view(end - start, -1)
        torch.testing.assert_close(ours[row, start:end], alone, atol=1e-5, rtol=0)


@cases(CHOICES)
def test_scores_of_choices_are_theirs(config, tmp_path):
    """Theirs come as (question, choice, time) with padding; ours as documents of a row, here two questions of three choices each."""
    model, lengths = random_model(config), (5, 7, 4, 9, 3, 6)
    documents = [tokens_of(config, 1, 9)[0].roll(i)[:n] for i, n in enumerate(lengths)]
    theirs = theirs_of(model, config, tmp_path)
    padded = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True, padding_value=1).view(2, 3, 9)
    mask = (torch.arange(9) < torch.tensor(lengths)[:, None]).long().view(2, 3, 9)
    segments = torch.cat([torch.full((n,), i + 1) for i, n in enumerate(lengths)] + [torch.zeros(2, dtype=torch.long)])[None]
    ours = scores_of(model, torch.cat([*documents, documents[0][:2]])[None], SequenceLayout.packed(segments, causal=False))
    expected = theirs(input_ids=padded, attention_mask=mask).logits
    torch.testing.assert_close(ours[0, [0, 16]], expected, atol=1e-5, rtol=0)
    assert (ours[0, 25, 2], *ours[0, 28, 1:]) == (torch.finfo(torch.float32).min,) * 3  # the last two have one and no document behind them
    assert ours.isfinite().all()


@pytest.mark.parametrize(("name", "second"), [("BertForPreTraining", "seq_relationship_logits"), ("AlbertForPreTraining", "sop_logits")])
def test_features_and_scores_of_one_pass_are_theirs(name, second, tmp_path):
    config = OTHERS[name]
    model, ids = random_model(config), tokens_of(config)
    theirs = theirs_of(model, config, tmp_path)(input_ids=ids)
    with torch.no_grad():
        features, scores = model.both(ids, SequenceLayout.rows(*ids.shape, causal=False))
        torch.testing.assert_close(model.head(features), theirs.prediction_logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(scores["next"][:, 0], theirs[second], atol=1e-5, rtol=0)


@cases(LABELS)
def test_gradients_of_a_loss_are_theirs(config, tmp_path):
    model, ids, labels = random_model(config), tokens_of(config), torch.tensor([2, 0])
    theirs = theirs_of(model, config, tmp_path)
    theirs.config.pad_token_id = 0
    scores = model.scores(ids, SequenceLayout.rows(*ids.shape, causal=config.reads_forward))["mood"]
    loss, their_loss = cross_entropy(scores[:, 0], labels), theirs(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(loss, their_loss, atol=1e-5, rtol=0)
    loss.backward()
    their_loss.backward()
    gradients_are_equal(model, config, theirs, tmp_path)


@cases(HUB)
def test_out_through_transformers_and_in_again_is_exact(config, tmp_path):
    model = random_model(config)
    theirs = theirs_of(model, config, tmp_path / "ours")
    assert type(theirs).__name__ in HUB
    theirs.save_pretrained(tmp_path / "theirs", safe_serialization=True)
    read, back = load_hub(tmp_path / "theirs")
    assert read == config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))
    assert config.n_params == theirs.num_parameters()


@cases(HUB)
def test_its_config_is_read_back_from_plain_data(config):
    assert config_from_plain(whole_config(config)) == config == config_from_plain(config.identity())


@pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
def test_a_body_alone_is_read_without_the_poolers_and_the_prefix(base, tmp_path):
    theirs = getattr(transformers, next(n for n, b in BASES.items() if b is base) + "Model")(
        transformers.AutoConfig.for_model(**base.to_hub())
    ).eval()
    theirs.save_pretrained(tmp_path, safe_serialization=True)
    assert any("pooler" in name for name in load_file(tmp_path / "model.safetensors")) == (base not in (ELECTRA, DEBERTA))
    config, model = load_hub(tmp_path)
    assert config == TaskConfig(base=base)
    ids = tokens_of(base)
    with torch.no_grad():
        ours = model.hidden(ids, SequenceLayout.rows(*ids.shape, causal=False))
        torch.testing.assert_close(ours, theirs(input_ids=ids).last_hidden_state, atol=1e-5, rtol=0)
        with pytest.raises(ConfigError, match="language_head=True"):
            model(ids, SequenceLayout.rows(*ids.shape, causal=False))


def test_heads_of_a_trained_checkpoint_are_read_past_by_a_model_of_language(tmp_path):
    model = random_model(OTHERS["BertForPreTraining"])
    theirs = theirs_of(model, OTHERS["BertForPreTraining"], tmp_path)
    theirs.config.architectures = ["BertForMaskedLM"]
    theirs.config.save_pretrained(tmp_path)
    config, back = load_hub(tmp_path)
    assert config == BERT
    assert all(torch.equal(weight, dict(model.base.named_parameters())[name]) for name, weight in back.named_parameters())


def test_the_first_berts_names_of_norms_are_read(tmp_path):
    model = random_model(BERT)
    save_hub(model, BERT, tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    assert any("gamma" in name for name in old)
    save_file(old, tmp_path / "model.safetensors")
    _, back = load_hub(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


MANY = TaskConfig(
    base=BERT,
    heads=(
        SequenceClassificationConfig(name="mean", n_labels=3, pooling=MeanPoolingConfig()),
        SequenceClassificationConfig(name="last", n_labels=4, pooling=LastPoolingConfig(activation="relu")),
        TokenClassificationConfig(name="word", n_labels=5), RegressionConfig(name="stars"), SimilarityConfig(name="vector"),
        SimilarityConfig(name="raw", normalise=False),
    ),
    language_head=True,
)  # fmt: skip


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_packing_changes_no_score_of_any_head(lengths, padding):
    model, time = random_model(MANY), sum(lengths) + padding
    ids = tokens_of(MANY, 1, time)
    segments = torch.cat([torch.full((n,), i + 1) for i, n in enumerate(lengths)] + [torch.zeros(padding, dtype=torch.long)])[None]
    with torch.no_grad():
        packed, start = model.scores(ids, SequenceLayout.packed(segments, causal=False)), 0
        for n in lengths:
            alone = model.scores(ids[:, start : start + n], SequenceLayout.rows(1, n, causal=False))
            for name, scores in alone.items():
                shown = slice(0, n) if name == "word" else slice(0, 1)
                torch.testing.assert_close(packed[name][0, start : start + n][shown], scores[0, shown], atol=1e-5, rtol=0)
            start += n


def test_vectors_are_means_of_states_and_have_length_one():
    model, ids = random_model(MANY), tokens_of(MANY)
    layout = SequenceLayout.packed(SEGMENTS, causal=False)
    with torch.no_grad():
        states = model.hidden(ids, layout)
        scores = model.scores_of(states, layout)
    for row, start, end in DOCUMENTS:
        mean = states[row, start:end].mean(0)
        torch.testing.assert_close(scores["raw"][row, start], mean, atol=1e-6, rtol=0)
        torch.testing.assert_close(scores["vector"][row, start], mean / mean.norm(), atol=1e-6, rtol=0)


def test_the_vocabularys_loss_is_the_bases():
    model, ids = random_model(MANY), tokens_of(MANY)
    batch = Batch(ids, ids, torch.ones(ids.shape), SequenceLayout.packed(SEGMENTS, causal=False))
    (ours,), (base,) = (CausalLM()(Models(one), batch) for one in (model, model.base))
    assert ours.total == base.total


def test_fresh_heads_on_a_trained_model_leave_its_states_as_they_are():
    base, ids = random_model(BERT), tokens_of(BERT)
    model = MANY.build_on(base, seed=3)
    layout = SequenceLayout.rows(*ids.shape, causal=False)
    assert torch.equal(model(ids, layout), base(ids, layout))
    fewer = MANY.replace(language_head=False, heads=MANY.heads[:1]).build_on(model, seed=4)
    assert torch.equal(fewer.hidden(ids, layout), base.hidden(ids, layout))
    assert not torch.equal(fewer.heads["mean"].out.weight, model.heads["mean"].out.weight)
    with pytest.raises(ConfigError, match="TaskConfig.language_head=True, and the given model has none"):
        MANY.build_on(fewer, seed=5)
    with pytest.raises(ConfigError, match=r"TaskConfig.base=.* is not what the given model is"):
        MANY.build_on(random_model(ALBERT), seed=5)


def test_flops_are_those_that_torch_counts():
    model, ids, layout = MANY.build(0), tokens_of(MANY, 3, 16), SequenceLayout.rows(3, 16, causal=False)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model.head(model.both(ids, layout)[0])
    assert MANY.flops_per_token(16) == 3 * counter.get_total_flops() / ids.numel()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SequenceClassificationConfig(name="a b", n_labels=2), r"SequenceClassificationConfig.name='a b' cannot name parameters"),
        (lambda: RegressionConfig(name="keys"), r"RegressionConfig.name='keys' cannot name parameters"),
        (lambda: SequenceClassificationConfig(name="a", n_labels=1), r"SequenceClassificationConfig.n_labels=1"),
        (lambda: TaskConfig(base=BERT, heads=(TWO, TWO)), r"TaskConfig.heads has the name 'next' twice"),
        (lambda: TaskConfig(base=T5), r"TaskConfig.base is a T5Config, which is no single stack of blocks"),
        (lambda: MANY.to_hub(), r"a BertConfig with SequenceClassificationConfig, .* and its own head has no class on the hub"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_labels_that_do_not_exclude_each_other_are_refused():
    plain = LABELS["BertForSequenceClassification"].to_hub() | {"problem_type": "multi_label_classification"}
    with pytest.raises(DataError, match="problem_type='multi_label_classification', which is not supported"):
        config_from_hub(plain)
