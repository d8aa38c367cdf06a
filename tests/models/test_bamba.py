"""What a hub config of a Bamba may say, and what is refused by name; and hybrids of other mixers, which need no family of their own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import BambaConfig, TransformerConfig
from bloomery.nn import AttentionConfig, FanInInit, GatedConfig, LinearAttentionConfig, Mamba2Config, SequenceLayout

TINY = BambaConfig(vocab_size=50, d_model=24, n_layers=3, attention_layers=(1,), n_heads=2, mamba=Mamba2Config(head_dim=8, d_state=6))
PUBLISHED = {
    "model_type": "bamba", "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
    "attn_layer_indices": [9, 18, 27], "num_attention_heads": 32, "num_key_value_heads": 8, "mamba_n_heads": 128, "mamba_d_head": "auto",
    "mamba_n_groups": 1, "mamba_d_state": 128, "mamba_d_conv": 4, "mamba_expand": 2, "tie_word_embeddings": False, "rope_theta": 10_000.0,
}  # fmt: skip


def test_the_published_sizes_have_the_published_number_of_parameters():
    config = BambaConfig.from_hub(PUBLISHED)
    assert config.attention_layers == (9, 18, 27)
    assert config.mamba.head_dim == 64
    assert config.n_params == pytest.approx(9.78e9, rel=0.001)


@pytest.mark.parametrize(("change", "message"), [
    ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type='linear'"),
    ({"partial_rotary_factor": 1.0}, "partial_rotary_factor=1.0"),
    ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}}, "partial_rotary_factor=0.25"),
    ({"head_dim": 64}, "head_dim=64"),
    ({"mamba_d_head": 32}, "mamba_n_heads=128 times mamba_d_head=32"),
])  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(change, message):
    with pytest.raises(DataError, match=message):
        BambaConfig.from_hub(PUBLISHED | change)


def test_a_config_without_sizes_is_refused_by_name():
    with pytest.raises(DataError, match="no 'mamba_n_heads'"):
        BambaConfig.from_hub({name: value for name, value in PUBLISHED.items() if name != "mamba_n_heads"})


@pytest.mark.parametrize("layers", [(3,), (1, 0), (1, 1)], ids=str)
def test_layers_that_do_not_exist_or_are_out_of_order_are_refused(layers):
    with pytest.raises(ConfigError, match=r"BambaConfig\.attention_layers=.* is not in rising order below n_layers=3"):
        TINY.replace(attention_layers=layers)


def test_heads_that_do_not_fit_are_refused_when_the_config_is_built():
    with pytest.raises(ConfigError, match=r"AttentionConfig\.n_heads=5 does not divide d_model=24"):
        TINY.replace(n_heads=5)
    with pytest.raises(ConfigError, match=r"AttentionConfig\.n_heads=12.* are 1 features, and rotary positions turn pairs"):
        TINY.replace(n_heads=12)


HYBRID = TransformerConfig(
    vocab_size=32, d_model=32, n_layers=6, max_seq_len=64, feed_forwards=(GatedConfig(d_ff=48), None), init=FanInInit(),
    mixers=(Mamba2Config(head_dim=16, d_state=16, chunk=8), LinearAttentionConfig(n_heads=2, chunk=8), AttentionConfig(n_heads=2, window=9)),
)


def test_a_cycle_of_mixers_is_a_hybrid_that_learns_and_reads_on():
    model, losses = HYBRID.build(seed=0), []
    optimizer, generator = torch.optim.AdamW(model.parameters(), lr=1e-2), torch.Generator().manual_seed(1)
    for _ in range(20):  # rows count in steps of 1, 2 or 3, from anywhere
        start, by = torch.randint(32, (8, 1), generator=generator), torch.randint(1, 4, (8, 1), generator=generator)
        ids = (start + by * torch.arange(24)) % 32
        loss = F.cross_entropy(model(ids, SequenceLayout.rows(8, 24))[:, 1:-1].flatten(0, 1), ids[:, 2:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        whole, cache, read = model(ids, SequenceLayout.rows(8, 24)), model.new_cache(8, 24), []
        for start, n in ((0, 10), (10, 1), (11, 1), (12, 12)):
            read.append(model(ids[:, start : start + n], SequenceLayout(torch.arange(start, start + n).expand(8, n)), cache))
        torch.testing.assert_close(torch.cat(read, dim=1), whole, atol=1e-4, rtol=0)
        packed = model(ids, SequenceLayout.packed(torch.tensor([[1] * 7 + [2] * 13 + [3] * 4] * 8)))
        torch.testing.assert_close(packed[:, 7:20], model(ids[:, 7:20], SequenceLayout.rows(8, 13)), atol=1e-4, rtol=0)
