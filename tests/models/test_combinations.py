"""Any combination of parts either makes a model that keeps the laws, or is refused when its config is built."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contracts.mixer_examples import EXAMPLES

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig, config_from_plain
from bloomery.models.checkpoint import whole_config
from bloomery.models.transformer import TransformConfig
from bloomery.nn import (
    BatchNormConfig,
    BranchNorm,
    DeepNormInit,
    ExpertsConfig,
    FanInInit,
    Fixup,
    FixupInit,
    GatedConfig,
    HeInit,
    LayerNormConfig,
    LearnedPlacesConfig,
    MuPInit,
    NoNormConfig,
    NoPlacesConfig,
    NormalInit,
    ParallelNorm,
    PlainConfig,
    PostNorm,
    PreNorm,
    RMSNormConfig,
    SandwichNorm,
    SequenceLayout,
    SinusoidalPlacesConfig,
    SmallInit,
    TFixupInit,
    TiedConfig,
    UntiedConfig,
    WiredInit,
    XavierInit,
)

MIXERS = [config for configs in EXAMPLES.values() for config in configs]
GATED, EXPERTS = GatedConfig(d_ff=16, activation="gelu_tanh", bias=True), ExpertsConfig(n_experts=3, n_active=2, d_ff=10)
FEED_FORWARDS = [None, PlainConfig(d_ff=20), GATED, EXPERTS]
PARTS = {
    "mixers": st.lists(st.sampled_from(MIXERS), min_size=1, max_size=2).map(tuple),
    "feed_forwards": st.lists(st.sampled_from(FEED_FORWARDS), min_size=1, max_size=2).map(tuple),
    "norm": st.sampled_from([RMSNormConfig(), RMSNormConfig(around_one=True), LayerNormConfig(), LayerNormConfig(bias=False), NoNormConfig()]),
    "placement": st.sampled_from([PreNorm(), PostNorm(), PostNorm(alpha=1.4), BranchNorm(), SandwichNorm(), ParallelNorm(), Fixup()]),
    "places": st.sampled_from([NoPlacesConfig(), SinusoidalPlacesConfig(), LearnedPlacesConfig(), LearnedPlacesConfig(offset=2)]),
    "head": st.sampled_from([TiedConfig(), TiedConfig(bias=True, softcap=5.0), UntiedConfig(scale=0.5), UntiedConfig(bias=True)]),
    "init": st.sampled_from([
        NormalInit(), FanInInit(), XavierInit(), HeInit(), SmallInit(), FixupInit(), TFixupInit(), DeepNormInit(gain=0.5),
        MuPInit(base_width=24, base_head_dim=6), WiredInit(),
    ]),
    "causal": st.booleans(),
    "n_layers": st.integers(1, 3),
    "n_distinct_layers": st.sampled_from([None, None, 1, 2]),
    "n_parts": st.sampled_from([None, 2]),
    "embedding_norm": st.sampled_from([NoNormConfig(), LayerNormConfig()]),
    "d_embedding": st.sampled_from([24, 24, 10]),
    "transform": st.sampled_from([None, TransformConfig(norm=LayerNormConfig())]),
}  # fmt: skip


@given(fields=st.fixed_dictionaries(PARTS))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_combination_works_or_is_refused_by_name(fields):
    try:
        config = TransformerConfig(vocab_size=31, d_model=24, max_seq_len=16, **fields)
    except ConfigError as error:
        told = str(error)
    else:
        told = ""
        keeps_the_laws(config)
    names = (*fields, *(mixer.kind() for mixer in fields["mixers"]), fields["init"].kind())
    assert not told or any(name in told for name in names)  # it names what is wrong


def keeps_the_laws(config: TransformerConfig) -> None:
    model = config.build(seed=0).eval()
    assert config.n_params == sum(p.numel() for p in model.parameters())
    assert config.flops_per_token(16) > 0
    assert config_from_plain(whole_config(config)) == config
    tokens = torch.randint(0, 31, (2, 12), generator=torch.Generator().manual_seed(1))
    layout = SequenceLayout.packed(torch.tensor([[1] * 7 + [2] * 5, [1] * 9 + [0] * 3]), config.causal)
    with torch.no_grad():
        packed = model(tokens, layout)
        alone = model(tokens[:1, 7:], SequenceLayout.rows(1, 5, causal=config.causal))
        assert packed.shape == (2, 12, 31)
        assert packed.isfinite().all()
        torch.testing.assert_close(packed[:1, 7:], alone, atol=1e-4, rtol=1e-4)
        if config.causal:
            cache = model.new_cache(1, 12)
            rows = SequenceLayout.rows(1, 12)
            read = [model(tokens[1:, a:b], SequenceLayout(torch.arange(a, b)[None]), cache) for a, b in ((0, 5), (5, 6), (6, 12))]
            torch.testing.assert_close(torch.cat(read, 1), model(tokens[1:], rows), atol=1e-4, rtol=1e-4)
    loss, _ = model.train().head.cross_entropy(model.features(tokens, layout).flatten(0, 1), tokens.flatten(), torch.ones(24))
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_batch_norms_are_the_one_part_that_isolates_nothing():
    config = TransformerConfig(
        vocab_size=31, d_model=24, n_layers=2, max_seq_len=16, mixers=(MIXERS[0],), feed_forwards=(PlainConfig(d_ff=20),),
        norm=BatchNormConfig(), init=FanInInit(),
    )  # fmt: skip
    model = config.build(seed=0).train()
    tokens = torch.randint(0, 31, (1, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        packed = model(tokens, SequenceLayout.packed(torch.tensor([[1] * 7 + [2] * 5])))
        alone = model(tokens[:, 7:], SequenceLayout.rows(1, 5))
    assert (packed[:, 7:] - alone).abs().max() > 1e-3
