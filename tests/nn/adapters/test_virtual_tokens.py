"""Virtual tokens and prefixes: packed, padded, read in pieces and written on, each document is as it would be alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.contracts.adapter_examples import LLAMA

from bloomery.core.errors import ConfigError
from bloomery.generate import complete
from bloomery.models import AdaptedConfig, BertConfig, T5Config
from bloomery.nn import SequenceLayout
from bloomery.nn.adapters import PrefixTuning, PromptTuning, PTuning
from bloomery.nn.adapters.prompts import inserted

BERT = BertConfig(vocab_size=61, d_model=24, n_layers=2, n_heads=4, max_seq_len=64)
TEMPLATE = PTuning(n_tokens=5, template=(0, 0, 3, 3, 9))
EVERY = pytest.mark.parametrize("adapter", [PromptTuning(n_tokens=3), TEMPLATE, PrefixTuning(n_tokens=4)], ids=str)
IDS = torch.randint(0, 61, (1, 20), generator=torch.Generator().manual_seed(1))


def adapted(adapter, base=LLAMA):
    model = AdaptedConfig(base=base, adapter=adapter).build(seed=2).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 8  # so that it shows
    return model


def test_virtual_tokens_stand_where_the_template_says_and_documents_begin_anew():
    segments = torch.tensor([[1, 1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1]])
    tokens = torch.tensor([[11, 12, 13, 14, 21, 22, 99], [31, 32, 33, 34, 35, 36, 37]])
    longer = inserted(tokens, SequenceLayout.packed(segments), places=(0, 2, 2, 6), vocab_size=100, max_seq_len=64)
    first = [100, 11, 12, 101, 102, 13, 14, 100, 21, 22, 99]
    second = [100, 31, 32, 101, 102, 33, 34, 35, 36, 103, 37]
    assert longer.tokens.tolist() == [first, second]
    assert longer.layout.positions[0, :10].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]
    assert longer.layout.positions[1].tolist() == list(range(11))
    assert longer.layout.segments.tolist() == [[1] * 7 + [2] * 3 + [0], [1] * 11]
    assert longer.tokens.gather(1, longer.own).tolist() == tokens.tolist()


@EVERY
@pytest.mark.parametrize("base", [LLAMA, BERT], ids=["llama", "bert"])
def test_packed_documents_are_each_as_alone(adapter, base):
    model, causal = adapted(adapter, base), base.reads_forward
    packed = model(IDS, SequenceLayout.packed(torch.tensor([[1] * 7 + [2] * 10 + [0] * 3]), causal))
    for start, end in ((0, 7), (7, 17)):
        alone = model(IDS[:, start:end], SequenceLayout.rows(1, end - start, causal=causal))
        torch.testing.assert_close(packed[:, start:end], alone, atol=1e-5, rtol=1e-5)


@EVERY
def test_what_documents_share_is_read_once_and_comes_to_the_same(adapter):
    model, tokens = adapted(adapter), IDS.repeat(3, 1)
    tokens[1, 12:], tokens[2, 1:] = 7, 8
    layout = SequenceLayout.packed(torch.tensor([[1] * 20, [1] * 17 + [0] * 3, [1] * 20]))
    places = layout.segments > 0
    once = model(tokens, replace(layout, alike=True))[places]
    torch.testing.assert_close(once, model(tokens, layout)[places], atol=1e-5, rtol=1e-5)


@EVERY
def test_reading_in_pieces_is_reading_at_once(adapter):
    model = adapted(adapter)
    whole = model(IDS, SequenceLayout.rows(1, 20))
    cache, read = model.new_cache(1, 20), []
    for start, end in ((0, 2), (2, 3), (3, 4), (4, 12), (12, 20)):
        read.append(model(IDS[:, start:end], SequenceLayout(torch.arange(start, end)[None]), cache))
    torch.testing.assert_close(torch.cat(read, dim=1), whole, atol=1e-5, rtol=1e-5)


@EVERY
def test_many_prompts_go_on_as_each_alone(adapter):
    model, prompts = adapted(adapter), [[5, 6], [7, 8, 9, 10, 11, 12, 13], [4, 5, 6, 7]]
    together = complete(model, prompts, set(), max_new_tokens=9)
    assert together == [complete(model, [prompt], set(), max_new_tokens=9)[0] for prompt in prompts]
    text = torch.tensor([prompts[0] + together[0]])
    assert model(text, SequenceLayout.rows(*text.shape)).argmax(-1)[0, 1:-1].tolist() == together[0]


def test_a_prompt_takes_its_places_from_the_longest_sequence():
    assert AdaptedConfig(base=LLAMA, adapter=PromptTuning(n_tokens=7)).max_seq_len == LLAMA.max_seq_len - 7


@pytest.mark.parametrize(("base", "adapter", "why"), [
    (T5Config(vocab_size=61, d_model=24, n_layers=1, n_heads=4, d_ff=40), PromptTuning(), "for models that are one stack of blocks"),
    (AdaptedConfig(base=LLAMA, adapter=PromptTuning(name="one")), PromptTuning(), "has virtual tokens already"),
    (LLAMA.transformer.replace(mixers=(LLAMA.transformer.mixers[0].replace(window=5),)), PrefixTuning(), "take PromptTuning"),
], ids=["encoder–decoder", "two prompts", "a window"])  # fmt: skip
def test_what_cannot_be_is_refused(base, adapter, why):
    with pytest.raises(ConfigError, match=why):
        AdaptedConfig(base=base, adapter=adapter)


def test_a_template_that_is_out_of_order_is_refused():
    with pytest.raises(ConfigError, match="does not place n_tokens=3 in order"):
        PTuning(n_tokens=3, template=(0, 4, 2))
