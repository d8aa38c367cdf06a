"""Cards: what is in them comes from the store, and names from anywhere stay names."""

from __future__ import annotations

import json

import pytest

from bloomery.models import AdaptedConfig, BertConfig, LlamaConfig
from bloomery.nn.adapters import LoRA
from bloomery.stages.sharing.card import Told, card, pipeline
from bloomery.store import Store, lineage

yaml = pytest.importorskip("yaml")
CONFIG = LlamaConfig(vocab_size=61, d_model=24, n_layers=2, n_heads=4)


def made(store: Store, stage: str, name: str, inputs=None, summary=None, fields=None):
    workspace = store.workspace(f"{stage}/{name}-0")
    workspace.path.mkdir(parents=True, exist_ok=True)
    return workspace.finish(stage=stage, name=name, key="0", fields=fields or {}, inputs=inputs or {}, summary=summary or {})


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path)
    funnel = [{"filter": "Length", "documents_in": 9, "documents_out": 7, "bytes_in": 1, "bytes_out": 1, "rewritten": 0}]
    made(store, "Prepare", "tales", summary={"documents": 7, "bytes": 2048, "funnel": funnel})
    made(store, "Tokenize", "told", {"corpus": "Prepare/tales-0", "tokenizer": "TrainTokenizer/main-0"})
    made(store, "Train", "base", {"sources[0].tokens": "Tokenize/told-0"}, {"tokens": 3_000_000}, {"steps": 5})
    made(store, "Train", "<b>[chat](x)", {"init.base": "Train/base-0"}, {"tokens": 1_000_000, "held_out/unread/bits_per_byte": 1.234567})
    made(store, "Evaluate", "exam", {"model": "Train/<b>[chat](x)-0"}, {"exact_match": 0.75, "standard_error": 0.0125, "asked": 80})
    return store


def told(store: Store, **more) -> Told:
    chat = store.find("Train/<b>[chat](x)-0")
    assert chat is not None
    return Told(chat, lineage(chat.reference, store), CONFIG, **more)


def test_the_head_is_what_the_hub_reads(store):
    exam = store.find("Evaluate/exam-0")
    head = yaml.safe_load(card(told(store, architecture="LlamaForCausalLM", evaluated=[exam], licence="mit",
                                    files={"chat-q8_0.gguf": "one file"})).split("---")[1])  # fmt: skip
    assert (head["library_name"], head["pipeline_tag"], head["license"]) == ("transformers", "text-generation", "mit")
    assert head["tags"] == ["bloomery", "gguf"]
    assert head["model-index"][0]["results"][0]["metrics"] == [{"type": "exact_match", "value": 0.75}, {"type": "asked", "value": 80}]


def test_figures_come_from_what_the_store_has(store):
    text = card(told(store, architecture="LlamaForCausalLM", evaluated=[store.find("Evaluate/exam-0")]))
    assert "trained on 4M tokens" in text
    assert f"{CONFIG.n_params:,}" in text
    assert "| 1.235 |" in text
    assert "| 0.75 | ± 0.0125 |" in text
    assert "| Prepare/tales-0 | 7 | 2 KiB | Length 7 |" in text
    assert "`TrainTokenizer/main-0` (no longer in the store)" in text
    assert json.loads(text.split("```json\n")[1].split("\n```")[0]) == {}


def test_nothing_is_claimed_that_was_not_done(store):
    base = store.find("Train/base-0")
    assert base is not None
    text = card(Told(base, lineage("Train/base-0", store), CONFIG))
    assert "Nothing was measured." in text
    assert "Nothing was read back." in text
    assert "license" not in text.split("---")[1]


def test_names_are_inert(store):
    text = card(told(store)).split("## Where it came from")[0]
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "[chat](x)" not in text.replace("\\[chat\\]", "")


@pytest.mark.parametrize(("config", "word"), [
    (CONFIG, "text-generation"), (BertConfig(vocab_size=61, d_model=24, n_layers=1, n_heads=4), "fill-mask"),
], ids=str)  # fmt: skip
def test_the_hub_has_a_word_for_what_a_class_does(config, word):
    assert pipeline(config.to_hub()["architectures"][0]) == word


def test_an_adapted_model_is_told_too(store):
    base = store.find("Train/base-0")
    assert base is not None
    config = AdaptedConfig(base=CONFIG, adapter=LoRA(rank=2))
    assert f"{config.n_params:,}" in card(Told(base, lineage("Train/base-0", store), config))
