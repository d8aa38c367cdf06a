"""The Transformer of 2017 beside torch's own, on the same weights; and its sizes beside the paper's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.models import Transformer2017Config
from bloomery.nn import Passage, SequenceLayout

CONFIG = Transformer2017Config(
    vocab_size=41, d_model=24, n_layers=2, n_encoder_layers=3, n_heads=4, d_ff=40, max_seq_len=32, attention_bias=True, norm_eps=1e-4,
)  # fmt: skip


class Peer(nn.Module):
    """torch.nn.Transformer without norms behind its stacks, between an embedding and a head as the paper has them."""

    def __init__(self, config: Transformer2017Config) -> None:
        super().__init__()
        fields = {"d_model": config.d_model, "nhead": config.n_heads, "dim_feedforward": config.d_ff, "dropout": 0.0, "batch_first": True}
        fields |= {"layer_norm_eps": config.norm_eps}
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**fields), config.n_encoder_layers, norm=None, enable_nested_tensor=False)
        decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**fields), config.n_layers, norm=None)
        self.stacks = nn.Transformer(config.d_model, config.n_heads, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
        self.table = nn.Parameter(torch.empty(config.vocab_size, config.d_model))

    def embed(self, ids):
        d = self.table.shape[1]
        places = [[f(p / 10_000 ** (2 * i / d)) for i in range(d // 2) for f in (math.sin, math.cos)] for p in range(ids.shape[1])]
        return self.table[ids] * math.sqrt(d) + torch.tensor(places)

    def forward(self, source, text, padding):
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1])
        unread = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
        return self.stacks(self.embed(source), self.embed(text), tgt_mask=mask, tgt_is_causal=True, **unread) @ self.table.T


def named_alike(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our weights, or gradients, under the names that torch has for them."""
    found = {"table": tensors["embedding.weight"]}
    for stack, ours, norms in (("encoder", "encoder", ("mixer", "ff")), ("decoder", "blocks", ("mixer", "cross", "ff"))):
        for i in range(CONFIG.n_encoder_layers if stack == "encoder" else CONFIG.n_layers):
            a, b = f"{ours}.{i}.", f"stacks.{stack}.layers.{i}."
            for one in ("weight", "bias"):
                found[f"{b}self_attn.in_proj_{one}"] = tensors[f"{a}mixer.qkv.{one}"]
                found[f"{b}self_attn.out_proj.{one}"] = tensors[f"{a}mixer.out.{one}"]
                found |= {f"{b}norm{n}.{one}": tensors[f"{a}{norm}_norm.{one}"] for n, norm in enumerate(norms, 1)}
                found |= {f"{b}linear{n}.{one}": tensors[f"{a}ff.{ff}.{one}"] for n, ff in enumerate(("up", "down"), 1)}
                if stack == "decoder":
                    found[f"{b}multihead_attn.in_proj_{one}"] = torch.cat((tensors[f"{a}cross.query.{one}"], tensors[f"{a}cross.kv.{one}"]))
                    found[f"{b}multihead_attn.out_proj.{one}"] = tensors[f"{a}cross.out.{one}"]
    return found


def test_logits_and_gradients_are_those_of_torch():
    model, generator = CONFIG.build(0), torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.2
    peer = Peer(CONFIG)
    peer.load_state_dict(named_alike(dict(model.named_parameters())))
    text, source = (torch.randint(0, 41, (3, n), generator=generator) for n in (9, 13))
    real = (torch.arange(13) < torch.tensor([13, 4, 9])[:, None]).long()
    passage = Passage(source, SequenceLayout.packed(real, causal=False))
    ours, theirs = model(text, SequenceLayout.rows(3, 9), passage=passage), peer(source, text, real == 0)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for logits in (ours, theirs):
        nn.functional.cross_entropy(logits.flatten(0, 1), text.roll(-1, 1).flatten()).backward()
    gradients = named_alike({name: parameter.grad for name, parameter in model.named_parameters()})
    assert gradients.keys() == dict(peer.named_parameters()).keys()
    for name, parameter in peer.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("sizes", "millions"), [({}, 65), ({"d_model": 1024, "n_heads": 16}, 213)], ids=["base", "big"])
def test_it_is_as_large_as_the_paper_says(sizes, millions):
    config = Transformer2017Config(vocab_size=37_000, **sizes)
    assert config.n_params == pytest.approx(millions * 1e6, rel=0.04)  # the paper rounds, and its vocabulary is "about 37000"
    assert (config.n_layers, config.n_encoder_layers, config.d_ff) == (6, 6, 4 * config.d_model)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="n_heads=7 does not divide d_model=512"):
        Transformer2017Config(vocab_size=41, n_heads=7)
