"""Growth keeps the function, lets gradients reach what is new, and refuses by name what it cannot do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.cases import CASES

from bloomery.core.errors import ConfigError
from bloomery.models import LlamaConfig
from bloomery.models.growth import Deepen, Duplicate, GroupHeads, Opened, Widen, difference
from bloomery.models.growth.change import parts_of
from bloomery.models.presets import PRESETS
from bloomery.models.transformer import NamedConfig, TransformConfig
from bloomery.nn import (
    AlibiConfig,
    AttentionConfig,
    BranchNorm,
    FanInInit,
    Fixup,
    FixupInit,
    GatedConfig,
    LayerNormConfig,
    LearnedPlacesConfig,
    LinearAttentionConfig,
    NoNormConfig,
    NoPositionsConfig,
    ParallelNorm,
    PlainConfig,
    PostNorm,
    RMSNormConfig,
    SandwichNorm,
    SequenceLayout,
    SinusoidalPlacesConfig,
    UntiedConfig,
)

LLAMA = LlamaConfig(
    vocab_size=61, d_model=32, n_layers=4, n_heads=4, d_ff=64, max_seq_len=64, tie_embeddings=False, init=FanInInit(embedding=1.0)
)
OPEN = LLAMA.transformer


def trained(config, seed: int = 0):
    """A model whose every parameter is away from where it started."""
    model = config.build(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator) * parameter.std(correction=0).clamp(min=0.1))
    return model


def grown(change, config):
    model = trained(config)
    before = {name: p.clone() for name, p in model.named_parameters()}
    new_config, new = change.apply(config, model)
    assert new.config == new_config
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters()), "the old model was changed"
    return model, new


def unreached(change, config, steps: int = 3) -> set[str]:
    """Names of parameters of which some number has no gradient after a few steps (of the new rows and columns of a wider model, too)."""
    _, new = grown(change, config)
    tokens, layout = torch.arange(config.vocab_size - 1)[None, :60], SequenceLayout.rows(1, 60)
    optimizer = torch.optim.Adam(new.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(new(tokens, layout)[0, :-1], tokens[0, 1:]).backward()
        optimizer.step()
    rows = {name: p.grad.abs().amax(-1) if p.ndim > 1 else p.grad.abs() for name, p in new.named_parameters()}
    return {name for name, row in rows.items() if name != "embedding.weight" and not row.all()}  # some tokens are not in the text


class TestDeepen:
    @pytest.mark.parametrize("where", ["spread", "top"])
    @pytest.mark.parametrize(
        "config",
        [
            LLAMA, OPEN, OPEN.replace(placement=ParallelNorm()), OPEN.replace(placement=BranchNorm()), OPEN.replace(placement=SandwichNorm()),
            OPEN.replace(placement=SandwichNorm(), norm=RMSNormConfig(around_one=True)),
            OPEN.replace(norm=LayerNormConfig(), feed_forwards=(PlainConfig(d_ff=48),), mixers=(AttentionConfig(n_heads=4, out_bias=True),)),
            OPEN.replace(placement=Fixup(), norm=NoNormConfig(), init=FixupInit(embedding=0.5)),
            OPEN.replace(mixers=(AttentionConfig(n_heads=4, window=4), LinearAttentionConfig(n_heads=4))),
            OPEN.replace(feed_forwards=(GatedConfig(d_ff=64), None)),
        ],
        ids=lambda config: str(getattr(config, "placement", "llama")),
    )  # fmt: skip
    def test_keeps_the_function_exactly(self, config, where):
        model, new = grown(Deepen(n_layers=6, where=where), config)
        assert len(new.blocks) == 6
        assert difference(model, new) == 0.0

    def test_puts_new_layers_where_it_says(self):
        wanted = {
            Deepen(n_layers=6): [0, None, 1, 2, None, 3], Deepen(n_layers=8): [0, None, 1, None, 2, None, 3, None],
            Deepen(n_layers=6, where="top"): [0, 1, 2, 3, None, None],
        }  # fmt: skip
        for change, origins in wanted.items():
            model, new = grown(change, LLAMA)
            for block, origin in zip(new.blocks, origins, strict=True):
                same = [i for i, old in enumerate(model.blocks) if torch.equal(block.mixer.qkv.weight, old.mixer.qkv.weight)]
                assert same == [origin] * (origin is not None), change

    @pytest.mark.parametrize("config", [LLAMA, OPEN.replace(placement=BranchNorm()), OPEN.replace(placement=SandwichNorm())])
    def test_gradients_reach_every_new_row(self, config):
        assert unreached(Deepen(n_layers=6), config) == set()

    def test_ten_billion_become_fifteen_as_planned(self):
        before, after = PRESETS["10b"], PRESETS["15b"]
        change = Deepen(n_layers=after.n_layers)
        assert change.config_of(before) == after
        assert after.n_params / before.n_params == pytest.approx(1.5, abs=0.03)

        def copy(config):  # all widths a 160th, the same layers
            return LLAMA.replace(
                d_model=config.d_model // 160, n_heads=4, d_ff=config.d_ff // 160, n_layers=config.n_layers, vocab_size=config.vocab_size // 160
            )

        model, new = grown(change, copy(before))
        assert new.config == copy(after)
        assert difference(model, new) == 0.0
        assert new.config.n_params / model.config.n_params == pytest.approx(after.n_params / before.n_params, abs=0.03)

    @pytest.mark.parametrize(
        ("change", "config", "words"),
        [
            (Deepen(n_layers=4), LLAMA, r"Deepen.n_layers=4 is not more than the n_layers=4 of the model; 5 would be"),
            (Deepen(n_layers=6), OPEN.replace(placement=PostNorm()), r"cannot keep the function of a model with placement=PostNorm\(\)"),
            (Deepen(n_layers=6), OPEN.replace(n_distinct_layers=2), r"n_distinct_layers=2"),
            (
                Deepen(n_layers=5), OPEN.replace(mixers=(AttentionConfig(n_heads=4, window=4), AttentionConfig(n_heads=4))),
                r"Deepen.where='spread' breaks the pattern of 2 layers with n_layers=5; take where='top'",
            ),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused_when_it_is_planned(self, change, config, words):
        with pytest.raises(ConfigError, match=words):
            change.config_of(config)


class TestWiden:
    @pytest.mark.parametrize(
        "config",
        [
            LLAMA, LLAMA.replace(tie_embeddings=True), OPEN,
            OPEN.replace(norm=RMSNormConfig(around_one=True, eps=1e-2), head=UntiedConfig(bias=True)),
            OPEN.replace(placement=BranchNorm()), OPEN.replace(placement=SandwichNorm()), OPEN.replace(placement=PostNorm()),
            OPEN.replace(placement=ParallelNorm(), embedding_norm=RMSNormConfig()),
            OPEN.replace(norm=NoNormConfig(), init=FanInInit(gain=0.3)),
            OPEN.replace(
                mixers=(AttentionConfig(n_heads=4, positions=NoPositionsConfig(), qkv_bias=True, out_bias=True, qk_norm=RMSNormConfig()),),
                feed_forwards=(PlainConfig(d_ff=64),), places=LearnedPlacesConfig(),
            ),
        ],
    )  # fmt: skip
    def test_keeps_the_function(self, config):
        model, new = grown(Widen(d_model=48, d_ff=96, n_heads=6), config)
        assert new.blocks[0].mixer.out.weight.shape == (48, 48)
        assert new.blocks[0].ff.down.weight.shape == (48, 96)
        assert difference(model, new) <= 3e-6  # norms behind branches round the most

    @settings(max_examples=15, deadline=None)
    @given(
        d_model=st.integers(32, 50), heads=st.sampled_from([(2, 4), (4, 8), (3, 6), (2, 8)]), d_ff=st.integers(40, 70),
        n_kv_heads=st.sampled_from([1, 2]), tied=st.booleans(),
    )
    def test_keeps_the_function_for_any_sizes(self, d_model, heads, d_ff, n_kv_heads, tied):
        config = LLAMA.replace(n_layers=1, n_heads=2, n_kv_heads=n_kv_heads, d_ff=40, tie_embeddings=tied)
        model, new = grown(Widen(d_model=d_model, n_heads=heads[1], n_kv_heads=heads[0], d_ff=d_ff), config)
        assert new.config.head_dim == 16
        assert difference(model, new) <= 1e-6

    def test_eps_counts_in_a_quiet_stream(self):
        config = LLAMA.replace(norm_eps=1e-1, init=FanInInit(embedding=0.1))
        model, new = grown(Widen(d_model=128), config)
        assert new.config.norm_eps == pytest.approx(0.025)
        assert difference(model, new) <= 1e-6

    @pytest.mark.parametrize("tied", [False, True])
    def test_gradients_reach_every_row_of_every_matrix(self, tied):
        assert unreached(Widen(d_model=48, d_ff=96, n_heads=6), LLAMA.replace(tie_embeddings=tied)) == set()

    @pytest.mark.parametrize(
        ("change", "config", "words"),
        [
            (Widen(d_model=48), OPEN.replace(norm=LayerNormConfig()), r"no rule for norm=LayerNormConfig\(\).*RMSNormConfig, or Deepen"),
            (Widen(d_model=16), LLAMA, r"Widen.d_model=16 is less than the d_model=32"),
            (Widen(d_ff=32), LLAMA, r"Widen.d_ff=32 is less than the d_ff=64"),
            (Widen(n_heads=2), LLAMA, r"makes 2 of the 4"),
            (Widen(n_heads=6, n_kv_heads=6), LLAMA.replace(n_kv_heads=2), r"with n_kv_heads=6 cannot hold groups of 2 heads each; 12 would"),
            (Widen(d_model=48), OPEN.replace(places=SinusoidalPlacesConfig()), r"places=SinusoidalPlacesConfig"),
            (Widen(n_heads=6), OPEN.replace(mixers=(AttentionConfig(n_heads=4, positions=AlibiConfig()),)), r"the biases of AlibiConfig"),
            (Widen(d_model=48), OPEN.replace(mixers=(LinearAttentionConfig(n_heads=4),)), r"mixers=LinearAttentionConfig"),
            (Widen(d_model=48), OPEN.replace(transform=TransformConfig(norm=RMSNormConfig())), r"no rule for transform=TransformConfig"),
            (Widen(d_model=48), OPEN.replace(n_distinct_layers=1), r"no rule for n_distinct_layers=1"),
        ],
    )
    def test_what_cannot_be_is_refused_when_it_is_planned(self, change, config, words):
        with pytest.raises(ConfigError, match=words):
            change.config_of(config)

    def test_nothing_to_widen_is_refused(self):
        with pytest.raises(ConfigError, match="says nothing to widen"):
            Widen()


class TestDuplicate:
    def test_overlaps_two_copies_as_solar_does(self):
        assert Duplicate(n_layers=48).origins(OPEN.replace(n_layers=32)) == [*range(24), *range(8, 32)]
        model, new = grown(Duplicate(n_layers=6), LLAMA)
        origins = [next(i for i, b in enumerate(model.blocks) if torch.equal(b.ff.down.weight, n.ff.down.weight)) for n in new.blocks]
        assert origins == [0, 1, 2, 1, 2, 3]
        assert difference(model, new) > 1e-2  # and says so, instead of refusing

    def test_more_than_two_copies_are_refused(self):
        with pytest.raises(ConfigError, match=r"Duplicate.n_layers=9 is more than twice the n_layers=4 of the model; 8 is the most"):
            Duplicate(n_layers=9).config_of(LLAMA)

    def test_a_broken_pattern_is_refused(self):
        config = OPEN.replace(mixers=(AttentionConfig(n_heads=4, window=4), AttentionConfig(n_heads=4)))
        assert Duplicate(n_layers=6).config_of(config).n_layers == 6
        with pytest.raises(ConfigError, match="add a multiple of 2 layers"):
            Duplicate(n_layers=5).config_of(config)


def test_a_change_that_would_move_the_function_is_refused_with_how_far():
    class Careless(Widen):
        """Forgets the factors of norms."""

        def weights_of(self, model, config):
            new = super().weights_of(model, config)
            with torch.no_grad():
                new.norm.weight.mul_(1.1)
            return new

    with pytest.raises(ConfigError, match=r"would move the logits of the model by 0\.\d+, more than 1e-05"):
        Careless(d_ff=96).apply(LLAMA, trained(LLAMA))


FAMILY_CHANGES = {  # what it does to a family's config
    "deepen": lambda config: Deepen(n_layers=config.n_layers + Deepen(n_layers=99).period(parts_of(config, "a test")), where="top"),
    "widen": lambda config: Widen(d_model=config.d_model + 8),
    "feed-forward": lambda config: Widen(d_ff=parts_of(config, "a test").feed_forwards[0].d_ff + 8),
}


@pytest.mark.parametrize("kind", FAMILY_CHANGES)
@pytest.mark.parametrize("name", [name for name, config in CASES.items() if isinstance(config, NamedConfig)])
def test_every_family_keeps_its_function_or_is_refused_by_name_beforehand(name, kind):
    config = CASES[name]
    feed_forward = parts_of(config, "a test").feed_forwards[0]
    if kind == "feed-forward" and not isinstance(feed_forward, GatedConfig | PlainConfig):
        pytest.skip("has no such layers")
    change = FAMILY_CHANGES[kind](config)
    try:
        change.config_of(config)
    except ConfigError as refusal:
        assert any(word in str(refusal) for word in ("has no rule for", "cannot keep the function", "needs", "shares its"))  # noqa: PT017
        assert (name, kind) not in {("llama", "deepen"), ("llama", "widen"), ("llama", "feed-forward")}
        return
    model, new = grown(change, config)
    assert difference(model, new) <= 1e-5


@pytest.mark.parametrize(
    ("name", "change"), [("qwen3", Widen(d_model=32)), ("gemma3", Widen(d_model=32)), ("gpt2", GroupHeads(n_kv_heads=1))], ids=lambda x: str(x)
)
def test_what_a_family_has_no_room_for_its_parts_have(name, change):
    config = CASES[name]
    with pytest.raises(ConfigError, match=rf"needs .*, and a {config.kind()} of these sizes has .*Opened\(\)"):
        change.config_of(config)
    model, opened = grown(Opened(), config)
    assert difference(model, opened) == 0.0
    _, new = change.apply(opened.config, opened)
    assert (difference(model, new) <= 1e-5) == change.keeps_function


def test_models_of_two_stacks_are_refused():
    from bloomery.models import T5Config

    with pytest.raises(ConfigError, match=r"Deepen\(n_layers=9\) has no rule for a T5Config"):
        Deepen(n_layers=9).config_of(T5Config(vocab_size=61, d_model=32, n_layers=2, n_heads=4))
