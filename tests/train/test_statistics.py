"""Statistics of layers: figures by the book, and a training that does not notice."""

from math import sqrt

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.mesh import Holding, Layout, Mesh
from bloomery.models import EncoderDecoderConfig, TransformerConfig
from bloomery.nn import (
    AttentionConfig,
    BatchNormConfig,
    CrossAttentionConfig,
    ExpertsConfig,
    GatedConfig,
    LinearAttentionConfig,
    PlainConfig,
    SequenceLayout,
)
from bloomery.optim import AdamW, Doublings, Muon
from bloomery.train import Manner, TrainState, train
from bloomery.train.inside import Inside
from bloomery.train.observe import layers
from bloomery.train.statistics import Inspector, Statistics
from tests.mesh.ranks import on_ranks
from tests.train.toys import ROWS, TINY, Uneven, course, fresh, same, weights

ATTENTION, LINEAR, GATED = AttentionConfig(n_heads=2), LinearAttentionConfig(n_heads=2), GatedConfig(d_ff=24)


def transformer(**changes) -> TransformerConfig:
    fields = {"vocab_size": 32, "d_model": 16, "n_layers": 2, "max_seq_len": 16, "mixers": (ATTENTION,), "feed_forwards": (GATED,)}
    return TransformerConfig(**fields | changes)


def of(config, optimizer=None) -> TrainState:
    model = config.build(seed=0)
    return TrainState(model, (optimizer or AdamW(learning_rate=1e-2)).build(model))


def trained(state, statistics=None, micro_batch=ROWS, said=None, **changes):
    """The reports of a run, and the figures by step."""
    figures, manner, its_course = {}, Manner(micro_batch=micro_batch), course(**changes)
    reports = train(state, Uneven(), its_course, manner)
    if statistics is not None:
        inspector = Inspector(statistics, state, Uneven(), its_course, manner)
        reports = inspector.over(reports, lambda step, found: figures.update({step: found}), (said if said is not None else []).append)
    return list(reports), figures


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        transformer(norm=BatchNormConfig(), final_norm=BatchNormConfig()),
        transformer(feed_forwards=(GATED, ExpertsConfig(d_ff=8, n_experts=4, n_active=2)), mixers=(LINEAR, ATTENTION)),
    ],
    ids=["llama", "batch_norm", "experts"],
)
def test_a_training_with_statistics_is_the_same_bit_for_bit(config):
    plain, looked_into = of(config, Muon()), of(config, Muon())
    without, _ = trained(plain, steps=5, micro_batch=2)
    found, figures = trained(looked_into, Statistics(every=2), steps=5, micro_batch=2)
    assert list(figures) == [2, 4, 5]
    assert same(weights(plain), weights(looked_into))
    assert all(torch.equal(a, b) for a, b in zip(plain.model.buffers(), looked_into.model.buffers(), strict=True))
    assert [(r.loss, r.grad_norm) for r in without] == [(r.loss, r.grad_norm) for r in found]


def test_gradients_are_those_that_were_applied_in_each_role():
    state = fresh()
    (report,), figures = trained(state, Statistics(every=1), steps=1, clip_norm=0.5)
    assert report.grad_norm > 0.5
    sizes = {"query": 256, "key": 256, "value": 256, "mixer_out": 256, "ff_in": 384, "ff_up": 384, "ff_out": 384, "vector": 32}
    squares = sum(figures[1][f"layers/{i}/gradient_rms/{role}"] ** 2 * size for i in (0, 1) for role, size in sizes.items())
    others = {"embedding": state.model.embedding.weight.numel(), "vector": 16}
    squares += sum(figures[1][f"{place}/gradient_rms"] ** 2 * size for place, size in others.items())
    assert sqrt(squares) == pytest.approx(0.5, rel=1e-4)
    assert sum(sizes.values()) * 2 + sum(others.values()) == sum(p.numel() for p in state.model.parameters())


def test_updates_are_told_relative_to_the_weights_behind_them():
    state = fresh()
    before = state.model.blocks[1].mixer.qkv.weight.detach().clone()
    _, figures = trained(state, Statistics(every=1, attention="none"), steps=1)
    after = state.model.blocks[1].mixer.qkv.weight.detach()
    key, moved = after[16:32], (after - before)[16:32]
    assert figures[1]["layers/1/weight_rms/key"] == pytest.approx(float(key.square().mean().sqrt()))
    assert figures[1]["layers/1/update_ratio/key"] == pytest.approx(float(moved.norm() / key.norm()), rel=1e-5)


def test_activations_are_those_of_real_tokens_of_the_first_rows():
    state = fresh()
    _, figures = trained(state, Statistics(every=1, rows=3), steps=1, micro_batch=2)
    batch, model = Uneven().batch(0, 3), state.model
    x = model.embed(batch.tokens, batch.layout).detach()
    for i, block in enumerate(model.blocks):
        x = block(x, batch.layout).detach()
        real = x[batch.layout.segments > 0]
        assert figures[1][f"layers/{i}/activation_rms"] == pytest.approx(float(real.square().mean().sqrt()), rel=1e-5)
        assert figures[1][f"layers/{i}/activation_max"] == pytest.approx(float(real.abs().max()), rel=1e-5)


def test_figures_are_the_same_under_any_micro_batch():
    (_, one), (_, all_rows) = (trained(fresh(), Statistics(every=2), steps=2, micro_batch=n) for n in (1, ROWS))
    assert one[2] == pytest.approx(all_rows[2], rel=1e-3, abs=1e-6)
    assert one[2].keys() == all_rows[2].keys()


@pytest.mark.parametrize("ff", [PlainConfig(d_ff=24, activation="relu"), GatedConfig(d_ff=24, bias=True)], ids=["plain", "gated"])
def test_units_that_no_token_wakes_are_dead(ff):
    model = transformer(feed_forwards=(ff,)).build(seed=0)
    into = model.blocks[1].ff.up if isinstance(ff, PlainConfig) else model.blocks[1].ff.gate_up
    with torch.no_grad():
        into.bias[:6] = -100.0
        into.bias[6:24] = 100.0
    inside = looked_into(model, SequenceLayout.rows(2, 8))
    assert inside["layers/1/dead_units"] == 0.25


def test_a_unit_that_only_padding_wakes_is_dead():
    model = transformer(feed_forwards=(PlainConfig(d_ff=24, activation="relu", bias=False),), n_layers=1).build(seed=0)
    with torch.no_grad():
        model.embedding.weight[0] = 1.0  # padding's
        model.embedding.weight[1:] = -1.0
        model.blocks[0].mixer.out.weight.zero_()
        model.blocks[0].ff.up.weight.fill_(1.0)
    segments = torch.tensor([[1, 1, 0]])
    inside = looked_into(model, SequenceLayout.packed(segments), torch.tensor([[3, 4, 0]]))
    assert inside["layers/0/dead_units"] == 1.0


def looked_into(model, layout, tokens=None, attention="heads"):
    inside = Inside(model, attention)
    tokens = torch.randint(1, 32, layout.positions.shape, generator=torch.Generator().manual_seed(0)) if tokens is None else tokens
    with torch.no_grad(), inside.watched():
        model(tokens, layout)
    assert not any(hooks for module in model.modules() for hooks in (module._forward_hooks,))
    return inside.figures()


@pytest.mark.parametrize("window", [None, 3])
def test_entropy_is_1_where_heads_look_at_all_alike_and_0_where_at_one(window):
    model = transformer(mixers=(AttentionConfig(n_heads=2, window=window),)).build(seed=0)
    qkv = model.blocks[0].mixer.qkv
    with torch.no_grad():
        qkv.weight[:8] = 0.0  # queries of the first head, to which all keys are alike
        qkv.weight[8:16] *= 1e6
    layout, tokens = SequenceLayout.packed(torch.tensor([[1] * 7 + [2] * 4 + [3, 0, 0]])), torch.arange(1, 15)[None]
    figures = looked_into(model, layout, tokens)
    assert figures["layers/0/attention_entropy/0"] == pytest.approx(1.0, abs=1e-6)
    assert figures["layers/0/attention_entropy/1"] < 1e-3
    both = (figures["layers/0/attention_entropy/0"] + figures["layers/0/attention_entropy/1"]) / 2
    assert looked_into(model, layout, tokens, "mean")["layers/0/attention_entropy"] == pytest.approx(both)
    assert not any("entropy" in name for name in looked_into(model, layout, tokens, "none"))


def test_entropy_by_the_book():
    model = transformer(n_layers=1).build(seed=0)
    with torch.no_grad():
        model.blocks[0].mixer.qkv.weight *= 5
    layout, tokens = SequenceLayout.rows(1, 6), torch.arange(1, 7)[None]
    block = model.blocks[0]
    queries, keys, _ = block.mixer.heads(block.mixer_norm(model.embed(tokens, layout)), layout)
    scores = torch.einsum("bqhd,bkhd->bhqk", queries, keys) / sqrt(8)
    p = scores.masked_fill(~torch.ones(6, 6, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    entropy = -torch.where(p > 0, p * p.log(), 0.0).sum(-1)[0, :, 1:] / torch.arange(2, 7).log()
    figures = looked_into(model, layout, tokens)
    assert [figures[f"layers/0/attention_entropy/{h}"] for h in (0, 1)] == pytest.approx(entropy.mean(-1).tolist(), rel=1e-5)


def test_mixers_that_are_no_softmax_attention_are_left_out_by_name():
    said = []
    state = of(transformer(mixers=(LINEAR, ATTENTION)))
    _, figures = trained(state, Statistics(every=1), steps=3, said=said)
    assert [line for line in said if "no attention entropy of LinearAttention" in line] == said
    assert len(said) == 1
    assert {name.split("/")[1] for name in figures[3] if "entropy" in name} == {"1"}


def test_layers_that_share_weights_are_looked_at_each():
    figures = looked_into(transformer(n_layers=3, n_distinct_layers=1).build(seed=0), SequenceLayout.rows(2, 8))
    found = [figures[f"layers/{i}/activation_rms"] for i in range(3)]
    assert len(set(found)) == 3
    assert "layers/3/activation_rms" not in figures


def test_both_stacks_of_an_encoder_decoder_have_names():
    config = EncoderDecoderConfig(
        vocab_size=32, d_model=16, n_encoder_layers=1, n_layers=2, max_seq_len=16, encoder_mixer=ATTENTION, mixer=ATTENTION,
        cross=CrossAttentionConfig(n_heads=2), feed_forward=GATED,
    )  # fmt: skip
    assert list(layers(config.build(seed=0))) == ["encoder/layers/0", "layers/0", "layers/1"]


def test_ranks_that_share_the_inside_of_layers_are_refused():
    state = fresh()
    state.holding = Holding(Mesh(Layout(tensor=2)), state.holding.parameters)
    with pytest.raises(ConfigError, match=r"--layout tensor=2: Train\.watch\.statistics looks into layers"):
        Inspector(Statistics(every=1), state, Uneven(), course(), Manner(micro_batch=1))


def on_a_rank(layout):
    from bloomery.train.spreading import fresh, spread_model

    mesh = Mesh.join(layout)
    parts = spread_model(TINY, mesh, fresh(TINY, seed=0))
    return trained(TrainState(parts.model, AdamW(learning_rate=1e-2).of(parts.members), holding=parts.holding), Statistics(every=2), steps=2)[1]


def test_figures_are_the_same_on_ranks_that_share_weights():
    alone = trained(fresh(), Statistics(every=2), steps=2)[1]
    for found in on_ranks(2, on_a_rank, Layout(shard=2)):
        assert found[2] == pytest.approx(alone[2], rel=1e-3, abs=1e-6)


def test_activations_under_a_ramp_are_those_of_the_steps_own_rows():
    seen = []

    class Told(Uneven):
        def batch(self, first_row, rows):
            seen.append((first_row, rows))
            return super().batch(first_row, rows)

    state, its_course = fresh(), course(steps=4, ramp=Doublings(at=(3,)))
    inspector = Inspector(Statistics(every=1, rows=2), state, Told(), its_course, Manner(micro_batch=ROWS))
    list(inspector.over(train(state, Told(), its_course, Manner(micro_batch=ROWS)), lambda step, found: None, print))
    steps, looked_at = seen[0::2], seen[1::2]
    assert looked_at == [(first_row, 2) for first_row, _ in steps]
    assert len({rows for _, rows in steps}) > 1
