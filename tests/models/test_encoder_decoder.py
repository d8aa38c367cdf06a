"""What every encoder–decoder keeps to, of whatever parts: documents stay apart, caches go on, folders are read back."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import EncoderDecoderConfig, T5Config, Transformer2017Config, TransformerConfig, config_from_plain, read_model, write_model
from bloomery.models.checkpoint import whole_config
from bloomery.nn import (
    AlibiConfig,
    AttentionConfig,
    CrossAttentionConfig,
    DisentangledConfig,
    GatedConfig,
    LayerNormConfig,
    LearnedPlacesConfig,
    Mamba2Config,
    ParallelNorm,
    Passage,
    PlainConfig,
    SandwichNorm,
    Seen,
    SequenceLayout,
    UntiedConfig,
)

SIZES = {"vocab_size": 41, "d_model": 24, "n_layers": 2, "max_seq_len": 32}
OPEN = EncoderDecoderConfig(
    **SIZES, n_encoder_layers=1, encoder_mixer=AttentionConfig(n_heads=4, positions=AlibiConfig(), window=4),
    mixer=AttentionConfig(n_heads=4, n_kv_heads=2), cross=CrossAttentionConfig(n_heads=3, n_kv_heads=1, out_bias=True),
    feed_forward=GatedConfig(d_ff=20), placement=SandwichNorm(), places=LearnedPlacesConfig(), head=UntiedConfig(bias=True),
)  # fmt: skip
CONFIGS = {
    "open": OPEN,
    "disentangled encoder": OPEN.replace(encoder_mixer=DisentangledConfig(n_heads=2, max_distance=16), norm=LayerNormConfig()),
    "state-space decoder": OPEN.replace(mixer=Mamba2Config(head_dim=8, d_state=10, chunk=4)),
    "2017": Transformer2017Config(**SIZES, n_heads=4, d_ff=40),
    "t5": T5Config(**SIZES, n_heads=4, d_ff=40),
}
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def ids(rows: int, time: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 41, (rows, time), generator=torch.Generator().manual_seed(seed))


def passage_of(tokens: torch.Tensor, segments: torch.Tensor | None = None) -> Passage:
    layout = SequenceLayout.rows(*tokens.shape, causal=False) if segments is None else SequenceLayout.packed(segments, causal=False)
    return Passage(tokens, layout)


def loud(config):
    """Weights that show where they are used."""
    model = config.build(3)
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) * 0.2
    return model.eval()


@every
def test_packed_pairs_are_as_each_alone(config):
    model, text, source = loud(config), ids(1, 12), ids(1, 10, seed=1)
    segments, read = torch.tensor([[1] * 5 + [2] * 4 + [0] * 3]), torch.tensor([[1] * 3 + [2] * 6 + [0]])
    packed = model(text, SequenceLayout.packed(segments), passage=passage_of(source, read))
    for document in (1, 2):
        here, there = segments[0] == document, read[0] == document
        alone = model(text[:, here], SequenceLayout.rows(1, int(here.sum())), passage=passage_of(source[:, there]))
        torch.testing.assert_close(packed[:, here], alone, atol=1e-5, rtol=0)
    assert packed.isfinite().all()


@every
def test_no_gradient_flows_between_packed_pairs(config):
    model, text, source = loud(config), ids(1, 9), ids(1, 8, seed=1)
    embedded = []
    model.embedding.register_forward_hook(lambda module, args, out: embedded.append(out.requires_grad_().retain_grad() or out))
    segments, read = torch.tensor([[1] * 5 + [2] * 4]), torch.tensor([[1] * 3 + [2] * 5])
    model(text, SequenceLayout.packed(segments), passage=passage_of(source, read))[segments == 1].sum().backward()
    of_source, of_text = embedded
    for gradients, numbers in ((of_source.grad[0], read[0]), (of_text.grad[0], segments[0])):
        assert torch.equal(gradients[numbers == 2], torch.zeros_like(gradients[numbers == 2]))
        assert (gradients[numbers == 1].abs().sum(-1) > 0).all()


@every
def test_a_text_is_read_on_from_a_cache_that_has_the_passage(config):
    model, text, lengths = loud(config), ids(3, 8), (5, 2, 3)
    real = (torch.arange(6) < torch.tensor([6, 1, 4])[:, None]).long()
    passage = passage_of(ids(3, 6, seed=1), real)
    whole = model(text, SequenceLayout.rows(3, 8), passage=passage)
    cache, positions = model.new_cache(3, 8), torch.arange(5).expand(3, 5)
    first = model(text[:, :5], SequenceLayout(positions, (positions < torch.tensor(lengths)[:, None]).long()), cache, passage)
    kept = torch.tensor([2, 0])
    new = torch.stack([text[row, lengths[row] : lengths[row] + 2] for row in kept])
    second = model(new, SequenceLayout(torch.tensor(lengths)[kept, None] + torch.arange(2)), cache.select(kept))
    for row, n in enumerate(lengths):
        torch.testing.assert_close(first[row, :n], whole[row, :n], atol=1e-5, rtol=0)
    for i, row in enumerate(kept):
        torch.testing.assert_close(second[i], whole[row, lengths[row] : lengths[row] + 2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [OPEN, CONFIGS["2017"], CONFIGS["t5"]], ids=["open", "2017", "t5"])  # a state cannot go back to the start
def test_a_passage_given_again_takes_the_place_of_the_one_before(config):
    model, text, layout = loud(config), ids(1, 3), SequenceLayout.rows(1, 3)
    one, other = passage_of(ids(1, 6, seed=1)), passage_of(ids(1, 4, seed=2))
    cache = model.new_cache(1, 3)
    model(text, layout, cache, one)
    torch.testing.assert_close(model(text, layout, cache, other), model(text, layout, passage=other), atol=1e-5, rtol=0)


@every
def test_gradients_reach_every_parameter(config):
    model = loud(config)
    model(ids(2, 9), SequenceLayout.rows(2, 9), passage=passage_of(ids(2, 7, seed=1))).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@every
def test_what_the_decoder_saw_is_kept_for_whoever_asks(config):
    model, seen = loud(config), Seen()
    features = model.features(ids(2, 9), SequenceLayout.rows(2, 9), seen=seen, passage=passage_of(ids(2, 7, seed=1)))
    assert [tuple(x.shape) for x in seen.hidden] == [(2, 9, 24)] * 3
    assert [tuple(x.shape) for x in seen.ff_inputs] == [(2, 9, 24)] * 2
    assert seen.last is features


@every
def test_it_is_read_back_from_its_folder(config, tmp_path):
    model = config.build(0)
    write_model(tmp_path, config, model)
    read, back = read_model(tmp_path)
    assert read == config == config_from_plain(whole_config(config)) == config_from_plain(config.identity())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


def test_it_wants_a_passage_and_a_decoder_does_not():
    assert all(config.reads_passage and config.reads_forward for config in CONFIGS.values())
    decoder = TransformerConfig(**SIZES, mixers=(AttentionConfig(n_heads=4),), feed_forwards=(GatedConfig(d_ff=20),))
    assert not decoder.reads_passage
    with pytest.raises(ConfigError, match="no passage"):
        OPEN.build(0)(ids(1, 3), SequenceLayout.rows(1, 3))


def test_its_cost_is_that_of_its_matrix_products():
    config = Transformer2017Config(vocab_size=100, d_model=8, n_layers=2, n_encoder_layers=3, n_heads=2, d_ff=16)
    encoder, decoder = 2 * (4 * 8 * 8 + 2 * 8 * 16) + 4 * 8 * 10, 2 * (8 * 8 * 8 + 2 * 8 * 16) + 4 * 8 * 5 + 4 * 8 * 10
    assert config.flops_per_token(10) == 3 * (3 * encoder + 2 * decoder + 2 * 8 * 100)


@pytest.mark.parametrize(("changes", "named"), [
    ({"mixer": DisentangledConfig(n_heads=2)}, "EncoderDecoderConfig.mixer=DisentangledConfig sees what comes after"),
    ({"encoder_mixer": Mamba2Config()}, "EncoderDecoderConfig.encoder_mixer=Mamba2Config only sees what comes before"),
    ({"placement": ParallelNorm()}, "placement=.*has one norm for two branches"),
    ({"cross": CrossAttentionConfig(n_heads=5)}, "n_heads=5 does not divide d_model=24"),
    ({"encoder_mixer": AttentionConfig(n_heads=5)}, "n_heads=5 does not divide d_model=24"),
    ({"mixer": AttentionConfig(n_heads=24)}, "head_dim=1"),
])  # fmt: skip
def test_parts_that_do_not_go_together_are_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        OPEN.replace(**changes)


def test_biases_of_2017_are_a_choice():
    plain = CONFIGS["2017"]
    assert plain.replace(attention_bias=True).n_params - plain.n_params == (2 * 4 + 2 * 8) * 24
    assert isinstance(plain.encoder_decoder.feed_forward, PlainConfig)
