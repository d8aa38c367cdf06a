"""Each part against its equation written out."""

from __future__ import annotations

import cmath
import math

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.nn import AttentionConfig, FanInInit, GatedConfig, Linear, NormalInit, RMSNorm, Rope, SequenceLayout, Shared, Use
from bloomery.nn.init import initialise


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_rms_norm_is_its_equation():
    norm, x = RMSNorm(6, eps=0.1), normal(2, 3, 6)
    norm.weight.data = normal(6)
    expected = norm.weight * x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt()
    torch.testing.assert_close(norm(x), expected)


def test_rope_turns_pairs_as_complex_numbers():
    rope, x = Rope(6, max_seq_len=50, theta=100.0), normal(1, 4, 1, 6)
    positions = torch.tensor([[0, 1, 7, 49]])
    turned = rope(x, positions)
    for t, p in enumerate(positions[0].tolist()):
        for i in range(3):
            z = complex(x[0, t, 0, i], x[0, t, 0, i + 3]) * cmath.exp(1j * p * 100.0 ** (-2 * i / 6))
            assert turned[0, t, 0, i].item() == pytest.approx(z.real, abs=1e-5)
            assert turned[0, t, 0, i + 3].item() == pytest.approx(z.imag, abs=1e-5)


def test_rope_products_depend_on_the_distance_alone():
    rope, q, k = Rope(8, max_seq_len=100, theta=10_000.0), normal(1, 1, 1, 8), normal(1, 1, 1, 8) + 0.5
    at = [(rope(q, torch.tensor([[p + 5]])) * rope(k, torch.tensor([[p]]))).sum() for p in (0, 3, 90)]
    torch.testing.assert_close(torch.stack(at), at[0].expand(3), atol=1e-5, rtol=0)


def test_rope_tables_stay_exact_when_the_model_is_cast():
    rope = Rope(8, max_seq_len=300, theta=10_000.0)
    cos = rope.cos.clone()
    rope.to(torch.bfloat16).to(torch.float64)
    assert rope.cos.dtype == torch.float32
    assert torch.equal(rope.cos, cos)
    assert rope(normal(1, 1, 1, 8).bfloat16(), torch.tensor([[7]])).dtype == torch.bfloat16


def test_swiglu_is_its_equation_gate_first():
    ff, x = GatedConfig(d_ff=7).build(5), normal(2, 5)
    gate, up = ff.gate_up.weight[:7], ff.gate_up.weight[7:]
    expected = (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ ff.down.weight.T
    torch.testing.assert_close(ff(x), expected)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_attention_is_its_equation_head_by_head(n_kv_heads):
    n_heads, head_dim, time, d_model = 4, 6, 7, 10
    rope = Rope(head_dim, max_seq_len=16, theta=10_000.0)
    config = AttentionConfig(n_heads=n_heads, n_kv_heads=n_kv_heads, head_dim=head_dim)
    attention = config.build(d_model, 16, Shared())
    x, layout = normal(1, time, d_model), SequenceLayout.rows(1, time)
    q, k, v = attention.qkv.weight.split([n_heads * head_dim, n_kv_heads * head_dim, n_kv_heads * head_dim])
    heads = []
    for h in range(n_heads):
        g = h // (n_heads // n_kv_heads)
        of = {name: x[0] @ w[i * head_dim : (i + 1) * head_dim].T for name, w, i in (("q", q, h), ("k", k, g), ("v", v, g))}
        turned = {name: rope(of[name][None, :, None], layout.positions)[0, :, 0] for name in "qk"}
        scores = (turned["q"] @ turned["k"].T / math.sqrt(head_dim)).masked_fill(torch.ones(time, time).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(-1) @ of["v"])
    expected = torch.cat(heads, -1) @ attention.out.weight.T
    torch.testing.assert_close(attention(x, layout)[0], expected, atol=1e-5, rtol=0)


def test_a_cache_refuses_packed_rows():
    attention = AttentionConfig(n_heads=2).build(8, 8, Shared())
    cache = attention.new_cache(1, 4, torch.float32, torch.device("cpu"))
    with pytest.raises(AssertionError, match="packed rows repeat"):
        attention(normal(1, 4, 8), SequenceLayout.packed(torch.tensor([[1, 1, 2, 2]])), cache)


def test_initial_scales():
    assert NormalInit(std=0.03).residual_std(fan_in=100, n_layers=8) == pytest.approx(0.03 / 4)
    assert FanInInit(gain=2.0).matrix_std(fan_in=100) == pytest.approx(0.2)
    assert FanInInit(gain=2.0).residual_std(fan_in=100, n_layers=2) == pytest.approx(0.1)
    with pytest.raises(ConfigError, match=r"NormalInit\.std=0"):
        NormalInit(std=0)


def drawn(seed: int, **layers: Linear) -> dict[str, torch.Tensor]:
    model = torch.nn.ModuleDict(layers)
    initialise(model, NormalInit(std=0.5), n_layers=8, seed=seed)
    return {name: layer.weight.detach() for name, layer in layers.items()}


def test_a_parameter_is_drawn_by_name_and_seed_alone():
    torch.manual_seed(1)
    one = drawn(1, x=Linear(50, 40, Use.OTHER))
    torch.manual_seed(2)
    two = drawn(1, y=Linear(50, 40, Use.OTHER), x=Linear(50, 40, Use.OTHER))
    assert torch.equal(one["x"], two["x"])
    assert not torch.equal(two["x"], two["y"])
    assert not torch.equal(one["x"], drawn(2, x=Linear(50, 40, Use.OTHER))["x"])
    assert one["x"].std().item() == pytest.approx(0.5, rel=0.05)


def test_matrices_stacked_in_one_are_drawn_each_for_its_use():
    weight = drawn(1, x=Linear(64, (300, 200), (Use.VALUE, Use.MIXER_OUT)))["x"]
    assert weight[:300].std().item() == pytest.approx(0.5, rel=0.05)
    assert weight[300:].std().item() == pytest.approx(0.5 / 4, rel=0.05)
