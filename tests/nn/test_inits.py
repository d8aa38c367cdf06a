"""Initialisations against their published formulas, and the parts that go with some of them."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import LlamaConfig, TransformerConfig
from bloomery.models.mup import mup
from bloomery.models.transformer import TransformConfig
from bloomery.nn import (
    AttentionConfig,
    DeepNormInit,
    FanInInit,
    Fixup,
    FixupInit,
    GatedConfig,
    HeInit,
    LayerNormConfig,
    MuPInit,
    NoNormConfig,
    NormalInit,
    PlainConfig,
    PostNorm,
    PreNorm,
    SequenceLayout,
    SmallInit,
    TFixupInit,
    TiedConfig,
    UntiedConfig,
    Use,
    WeightInit,
    XavierInit,
    deep_norm,
)  # fmt: skip

D, FF, N = 96, 160, 6
SHAPES = {  # use → (fan_in, fan_out)
    Use.QUERY: (D, D), Use.KEY: (D, D), Use.VALUE: (D, D), Use.MIXER_OUT: (D, D), Use.FF_IN: (D, FF), Use.FF_UP: (D, FF), Use.FF_OUT: (FF, D),
    Use.EMBEDDING: (D, 400), Use.HEAD: (D, 400),
}  # fmt: skip
BRANCH = (Use.VALUE, Use.MIXER_OUT, Use.FF_IN, Use.FF_UP, Use.FF_OUT)


def xavier(use):
    return sqrt(2 / sum(SHAPES[use]))


PUBLISHED = {
    "xavier": (XavierInit(embedding=0.3), lambda use: 0.3 if use is Use.EMBEDDING else xavier(use)),
    "he": (HeInit(embedding=0.3), lambda use: 0.3 if use is Use.EMBEDDING else sqrt(2 / SHAPES[use][0])),
    "gpt-2": (NormalInit(), lambda use: 0.02 / sqrt(2 * N) if use.residual else 0.02),
    "small": (SmallInit(), lambda use: sqrt(2 / (5 * D))),
    "fixup": (
        FixupInit(embedding=0.3),
        lambda use: 0.3 if use is Use.EMBEDDING else 0.0 if use.residual or use is Use.HEAD else sqrt(2 / SHAPES[use][0]) * (2 * N) ** -0.5,
    ),
    "t-fixup": (
        TFixupInit(),
        lambda use: D**-0.5 * (9 * N) ** -0.25 if use is Use.EMBEDDING else xavier(use) * (0.67 * N**-0.25 if use in BRANCH else 1.0),
    ),
    "deepnorm": (
        DeepNormInit(embedding=0.3), lambda use: 0.3 if use is Use.EMBEDDING else xavier(use) * ((8 * N) ** -0.25 if use in BRANCH else 1.0),
    ),
    "µP": (
        MuPInit(base_width=32, base_head_dim=8, embedding=0.3),
        lambda use: 0.3 if use in (Use.EMBEDDING, Use.HEAD) else SHAPES[use][0] ** -0.5 / (sqrt(2 * N) if use.residual else 1.0),
    ),
}  # fmt: skip


def model_of(init: WeightInit, **changes) -> TransformerConfig:
    fields = {
        "vocab_size": 400, "d_model": D, "n_layers": N, "max_seq_len": 32,
        "mixers": (AttentionConfig(n_heads=4, scale=changes.pop("scale", None)),),
        "feed_forwards": (GatedConfig(d_ff=FF),), "head": UntiedConfig(), "init": init,
    }  # fmt: skip
    return TransformerConfig(**fields | changes)


FITTING = {
    "deepnorm": {"placement": deep_norm(N)[0], "norm": LayerNormConfig()}, "fixup": {"placement": Fixup(), "norm": NoNormConfig()},
    "µP": {"scale": 8**0.5 / 24, "head": UntiedConfig(scale=32 / D)},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_matrix_has_the_published_deviation(name):
    init, formula = PUBLISHED[name]
    for use, (fan_in, fan_out) in SHAPES.items():
        assert init.std_of(use, fan_in, fan_out, N) == pytest.approx(formula(use), rel=1e-12), use
    model = model_of(init, **FITTING.get(name, {})).build(seed=0).requires_grad_(False)
    block = model.blocks[3]
    drawn = {
        **dict(zip((Use.QUERY, Use.KEY, Use.VALUE), block.mixer.qkv.weight.split(D), strict=True)),
        **dict(zip((Use.FF_IN, Use.FF_UP), block.ff.gate_up.weight.split(FF), strict=True)),
        Use.MIXER_OUT: block.mixer.out.weight, Use.FF_OUT: block.ff.down.weight,
        Use.EMBEDDING: model.embedding.weight, Use.HEAD: model.head.weight,
    }
    for use, matrix in drawn.items():
        assert float(matrix.std()) == pytest.approx(formula(use), rel=0.05, abs=1e-12), use


class TestDeepNorm:
    def test_has_the_papers_factors(self):
        placement, init = deep_norm(n_layers=100)
        assert placement.alpha == pytest.approx(200**0.25)
        assert init.std_of(Use.VALUE, 512, 512, 100) / init.std_of(Use.QUERY, 512, 512, 100) == pytest.approx(800**-0.25)

    @pytest.mark.parametrize(
        ("placement", "init"),
        [(PreNorm(), DeepNormInit()), (PostNorm(), DeepNormInit()), (PostNorm(alpha=3.0), DeepNormInit()), (PostNorm(alpha=2.0), NormalInit())],
    )
    def test_its_halves_are_refused_apart(self, placement, init):
        with pytest.raises(ConfigError, match=r"placement=.*init=.*deep_norm\(n_layers=6\)"):
            model_of(init, placement=placement)

    def test_a_family_without_its_norms_refuses_it(self):
        with pytest.raises(ConfigError, match="deep_norm"):
            LlamaConfig(vocab_size=64, d_model=32, n_layers=2, n_heads=4, init=DeepNormInit())

    def test_a_step_moves_a_deep_model_far_less_than_without_it(self):
        def moved(placement, init) -> float:  # how far one step of plain descent moves the features
            model = model_of(init.replace(embedding=1.0), n_layers=24, placement=placement, norm=LayerNormConfig()).build(seed=0)
            tokens, layout = torch.arange(32)[None], SequenceLayout.rows(1, 32)
            before = model.features(tokens, layout)
            torch.nn.functional.cross_entropy(model.unembed(before)[0, :-1], tokens[0, 1:]).backward()
            with torch.no_grad():
                for parameter in model.blocks.parameters():
                    parameter -= 0.05 * parameter.grad
                return float((model.features(tokens, layout) - before).norm() / before.norm())

        assert moved(*deep_norm(24)) < 0.1 * moved(PostNorm(), XavierInit())


class TestFixup:
    CONFIG = model_of(FixupInit(), placement=Fixup(), norm=NoNormConfig(), feed_forwards=(PlainConfig(d_ff=FF),), head=TiedConfig())

    def test_is_the_embedding_at_first(self):
        model = self.CONFIG.build(seed=0)
        tokens, layout = torch.arange(20)[None], SequenceLayout.rows(1, 20)
        assert torch.equal(model.features(tokens, layout), model.embedding(tokens))

    def test_each_branch_has_a_factor_and_biases_that_count(self):
        model = self.CONFIG.build(seed=0)
        tokens, layout = torch.arange(20)[None], SequenceLayout.rows(1, 20)
        block, x = model.blocks[0], model.embedding(tokens)
        ends = block.mixer_norm
        with torch.no_grad():
            block.mixer.out.weight.normal_()
            ends.scale.fill_(2.0)
            ends.bias_before.fill_(0.5)
            ends.bias_after.fill_(0.25)
            wanted = x + 2.0 * block.mixer(x + 0.5, layout) + 0.25
            torch.testing.assert_close(block.join(x, ends.at(layout), lambda h: block.mixer(h, layout)), wanted)

    def test_gradients_reach_the_last_matrices_first_and_all_after_a_step(self):
        model = self.CONFIG.build(seed=0)
        tokens, layout = torch.arange(20)[None], SequenceLayout.rows(1, 20)
        for _ in range(2):
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(tokens, layout)[0, :-1], tokens[0, 1:]).backward()
            reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
        assert {name for name, _ in model.named_parameters()} - reached == set()

    def test_norms_beside_it_are_refused(self):
        with pytest.raises(ConfigError, match=r"placement=Fixup\(\) has no room for norm=.*NoNormConfig"):
            model_of(FixupInit(), placement=Fixup())


class TestMuP:
    INIT = MuPInit(base_width=32, base_head_dim=8)
    PLAIN = model_of(FanInInit(), head=TiedConfig())

    def test_is_any_other_model_at_the_base_width(self):
        config = self.PLAIN.replace(d_model=32)
        tokens, layout = torch.arange(20)[None], SequenceLayout.rows(1, 20)
        assert torch.equal(config.build(0)(tokens, layout), mup(config, self.INIT).build(0)(tokens, layout))

    def test_scales_scores_by_head_dim_and_logits_by_width(self):
        config = mup(self.PLAIN, self.INIT)
        assert config.mixers[0].scale == pytest.approx(sqrt(8) / 24)
        assert config.head.scale == pytest.approx(32 / 96)
        assert config.build(0).hidden_rate == pytest.approx(1 / 3)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({}, "mixers.scale"), ({"scale": 8**0.5 / 24}, "head.scale"),
            ({"scale": 8**0.5 / 24, "d_embedding": 48, "transform": TransformConfig(norm=NoNormConfig())}, "d_embedding=48"),
        ],
    )
    def test_is_refused_without_its_scales(self, changes, field):
        with pytest.raises(ConfigError, match=field):
            model_of(self.INIT, **changes)

    def test_takes_a_llama_by_its_parts_and_refuses_it_as_it_is(self):
        llama = LlamaConfig(vocab_size=64, d_model=64, n_layers=2, n_heads=4)
        assert mup(llama, self.INIT).n_params == llama.n_params
        with pytest.raises(ConfigError, match=r"mup\(model, init\)"):
            llama.replace(init=self.INIT)
