"""Real conversations and preferences as sequences: what is learnt is what the assistant said, to the letter."""

from __future__ import annotations

import itertools

import pytest

from bloomery.data.encodings import Chat, MarkedTurns, Ranked
from bloomery.text.chat import ChatTemplate
from bloomery.text.instructions import preference_of
from bloomery.text.readers import Files
from bloomery.text.readers.rows import Rows
from bloomery.text.tokenizer import Tokenizer

pytestmark = pytest.mark.real

CHATS = {
    "B_sft/alpaca_en_demo/alpaca_en_demo.json": 999, "B_sft/alpaca_en_demo/alpaca_zh_demo.json": 1000,
    "B_sft/alpaca_en_demo/glaive_toolcall_en_demo.json": 300, "B_sft/alpaca_en_demo/v1_sft_demo.jsonl": 500,
    "B_sft/mt_bench_vicuna/data/dummy_conversation.json": 500, "C_pref/hh_rlhf_harmless_test": 1154,
    "C_pref/llamafactory_dpo_kto/kto_en_demo.json": 150,  # those that were wanted
}  # fmt: skip
PREFERENCES = {
    "C_pref/hh_rlhf_harmless_test": 2308, "C_pref/gsm8k_solution_verdicts": 2640, "C_pref/llamafactory_dpo_kto/kto_en_demo.json": 300,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["a small vocabulary will do, and every byte is in it " * 20], vocab_size=300)


def batches(real_data, path):
    if not (real_data / path).exists():
        pytest.skip(f"{path} is not in {real_data}")
    source = Files(path=str(real_data / path), include=("*.json", "*.jsonl"), rows=Rows(on_bad_row="count"))
    return source.batches(on_damage=lambda damage: None)


def replies(tokenizer, sequence):
    """The texts of the learnt runs."""
    runs = itertools.groupby(zip(sequence.tokens.tolist(), sequence.mask.tolist(), strict=True), key=lambda pair: pair[1])
    return [tokenizer.decode([token for token, _ in run]) for learnt, run in runs if learnt]


@pytest.mark.parametrize(("path", "count"), CHATS.items())
def test_real_conversations_learn_what_the_assistant_said(real_data, tokenizer, path, count):
    found = 0
    for batch in batches(real_data, path):
        said = {}
        for id, messages, meta in zip(*(batch[name].to_pylist() for name in ("id", "messages", "meta")), strict=True):
            preference = preference_of(messages, meta)
            taken = messages if preference is None else [*preference.prompt, *preference.completions[0].messages]
            said[id] = [m["content"] for m in taken if m["role"] == "assistant"]
        for sequence in Chat(learn=MarkedTurns()).encode(batch, tokenizer):
            found += 1
            assert replies(tokenizer, sequence) == said[sequence.id]
            assert (sequence.tokens == tokenizer.begin).sum() == 1
            assert sequence.mask[sequence.tokens == tokenizer.end].sum() == len(said[sequence.id])
    assert found == count


@pytest.mark.parametrize(("path", "count"), PREFERENCES.items())
def test_real_preferences_share_their_prompt(real_data, tokenizer, path, count):
    found = 0
    for batch in batches(real_data, path):
        documents = dict(zip(batch["id"].to_pylist(), zip(batch["messages"].to_pylist(), batch["meta"].to_pylist(), strict=True), strict=True))
        sequences = list(Ranked().encode(batch, tokenizer))
        found += len(sequences)
        for id, group in itertools.groupby(sequences, key=lambda sequence: sequence.id.rpartition("@")[0]):
            preference = preference_of(*documents[id])
            prompt = ChatTemplate().render(preference.prompt, tokenizer, add_generation_prompt=True).ids
            for sequence, completion in zip(group, preference.completions, strict=True):
                assert sequence.tokens[: len(prompt)].tolist() == prompt
                assert not sequence.mask[: len(prompt)].any()
                assert replies(tokenizer, sequence) == [m["content"] for m in completion.messages if m["role"] == "assistant"]
    assert found == count
