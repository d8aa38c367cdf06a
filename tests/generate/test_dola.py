"""DoLa as its paper defines it, written with probabilities."""

from __future__ import annotations

import math

import pytest
import torch
from tests.generate.peers import END, MODEL, PROMPTS

from bloomery.core.errors import ConfigError
from bloomery.generate import Beam, DoLa, complete, search
from bloomery.models import BertConfig, EncoderDecoderConfig, LlamaConfig
from bloomery.nn import AttentionConfig, CrossAttentionConfig, FanInInit, GatedConfig, SequenceLayout, UntiedConfig
from bloomery.nn.seen import Seen

DEEP = LlamaConfig(
    vocab_size=48, d_model=32, n_layers=6, n_heads=4, max_seq_len=64, tie_embeddings=False, init=FanInInit(gain=1.5, embedding=1.0),
).build(3).eval()  # fmt: skip


def by_definition(ids: list[int], layers: tuple[int, ...], alpha: float) -> list[float]:
    """Chuang et al. (2023), equations 2 to 6, for the token behind some others."""
    seen = Seen()
    with torch.no_grad():
        last = DEEP.features(torch.tensor([ids]), SequenceLayout.rows(1, len(ids)), seen=seen)[0, -1]
        p = DEEP.unembed(last).double().softmax(-1).tolist()
        q = {layer: DEEP.unembed(seen.hidden[layer][0, -1]).double().softmax(-1).tolist() for layer in layers}

    def jsd(layer: int) -> float:
        mean = [(a + b) / 2 for a, b in zip(p, q[layer], strict=True)]
        return sum(a * math.log(a / m) + b * math.log(b / m) for a, b, m in zip(p, q[layer], mean, strict=True)) / 2

    premature = q[max(layers, key=jsd)]
    return [math.log(a / b) if a >= alpha * max(p) else -math.inf for a, b in zip(p, premature, strict=True)]


def naive(prompt: list[int], layers: tuple[int, ...], alpha: float, new: int) -> list[int]:
    text = list(prompt)
    for _ in range(new):
        scores = by_definition(text, layers, alpha)
        token = max(range(len(scores)), key=scores.__getitem__)
        if token == END:
            break
        text.append(token)
    return text[len(prompt) :]


@pytest.mark.parametrize("dola", [
    DoLa(layers=(2,)), DoLa(layers=(0,), relative_top=0.5), DoLa(layers="low"), DoLa(layers="high"),
    DoLa(layers=(0, 1, 3, 5), relative_top=0.01),
], ids=str)  # fmt: skip
def test_scores_and_texts_are_those_of_the_published_definition(dola):
    layers = {"low": (0, 2), "high": (3, 5)}.get(dola.layers, dola.layers)
    model, prompts = dola.of(DEEP), PROMPTS[:3]
    with torch.no_grad():
        for prompt in prompts:
            scores = model(torch.tensor([prompt]), SequenceLayout.rows(1, len(prompt)))[0, -1]
            torch.testing.assert_close(scores, torch.tensor(by_definition(prompt, layers, dola.relative_top)), atol=1e-4, rtol=0)
    told = complete(model, prompts, [END], 8)
    assert told == [naive(prompt, layers, dola.relative_top, 8) for prompt in prompts]
    assert told != complete(DEEP, prompts, [END], 8)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [(3,), (1, 3, 5)], ids=("static", "dynamic"))
def test_many_texts_are_those_of_the_published_definition(layers):
    assert complete(DoLa(layers=layers).of(DEEP), PROMPTS, [END], 16) == [naive(prompt, layers, 0.1, 16) for prompt in PROMPTS]


def test_the_layer_is_chosen_for_each_row_by_itself():
    model = DoLa(layers=(0, 1, 2, 3, 4, 5)).of(DEEP)
    prompts = [PROMPTS[i] for i in range(0, 12, 3)]
    assert complete(model, prompts, [END], 8) == [complete(model, [prompt], [END], 8)[0] for prompt in prompts]


def test_searches_go_by_it():
    told = search(Beam(n_beams=3), DoLa(layers=(2,)).of(DEEP), PROMPTS[:10], frozenset({END}), 8)
    assert told != search(Beam(n_beams=3), DEEP, PROMPTS[:10], frozenset({END}), 8)


def test_what_has_no_such_layers_is_refused():
    with pytest.raises(ConfigError, match=r"layers=\(2,\) does not fit a model of 2 layers; 0 to 1 come before its last"):
        DoLa(layers=(2,)).of(MODEL)
    with pytest.raises(ConfigError, match="names none"):
        DoLa(layers=())
    writer = EncoderDecoderConfig(
        vocab_size=48, d_model=32, n_layers=1, max_seq_len=24, encoder_mixer=AttentionConfig(n_heads=4), mixer=AttentionConfig(n_heads=4),
        cross=CrossAttentionConfig(n_heads=4), feed_forward=GatedConfig(d_ff=32), head=UntiedConfig(),
    ).build(1)  # fmt: skip
    with pytest.raises(ConfigError, match="those of a EncoderDecoderConfig are not made for"):
        DoLa(layers=(0,)).of(writer)
    with pytest.raises(ConfigError, match="those of a BertConfig are not made for"):
        DoLa(layers=(0,)).of(BertConfig(vocab_size=61, d_model=24, n_layers=4, n_heads=4, d_ff=40, max_seq_len=64).build(1))
