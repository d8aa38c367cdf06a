"""GGUF: what llama.cpp would read is the model that was written, tensor by tensor, and transformers reads it as the same."""

from __future__ import annotations

import pytest
import torch
from tests.models.cases import CASES, GEMMA2, GEMMA3, LLAMA, MISTRAL, MIXTRAL, OLMOE, QWEN3
from tests.models.test_parity import random_model, tokens_of

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import BertConfig, Gpt2Config
from bloomery.models.gguf import GRAPHS, load_gguf, save_gguf
from bloomery.nn import Llama3Scaling, SequenceLayout, YarnScaling

gguf = pytest.importorskip("gguf", reason="GGUF files need the gguf package")

SIZES = {"d_model": 64, "n_heads": 4, "d_ff": 96}  # rows that blocks of 32 fill
WRITTEN = {
    "gpt2": CASES["gpt2"], "gpt2, untied": CASES["gpt2, untied"], "llama": LLAMA, "llama, grouped": CASES["llama, tied and grouped"],
    "llama, biases, llama3 scaling": CASES["llama, biases, llama3 scaling"], "llama, linear scaling": CASES["llama, linear scaling"],
    "mistral": MISTRAL.replace(window=None), "mixtral": MIXTRAL, "olmoe": OLMOE, "qwen3": QWEN3, "olmo2": CASES["olmo2"],
    "gemma": CASES["gemma"], "gemma2": GEMMA2, "gemma3": GEMMA3.replace(windows=(5,)),
}  # fmt: skip
every_case = pytest.mark.parametrize("config", WRITTEN.values(), ids=WRITTEN.keys())


def test_every_family_that_can_be_written_is_tested():
    assert {type(config) for config in WRITTEN.values()} == set(GRAPHS)


@every_case
def test_what_is_read_back_is_what_was_written(config, tmp_path):
    model = random_model(config)
    save_gguf(model, config, tmp_path / "model.gguf", "f32")
    again = load_gguf(tmp_path / "model.gguf", config)
    for (name, ours), read in zip(model.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(read, ours, rtol=0, atol=2.5e-7 if "norm" in name and "gemma" in config.kind().lower() else 0, msg=name)


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama, grouped", "qwen3", "gemma2", "gemma3"])
def test_transformers_reads_the_same_model(name, tmp_path):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    config = WRITTEN[name]
    model, ids = random_model(config), tokens_of(config)
    save_gguf(model, config, tmp_path / "model.gguf", "f32", {"general.name": name})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", config=transformers.AutoConfig.for_model(**config.to_hub()), dtype=torch.float32,
        attn_implementation="eager",
    )  # fmt: skip
    with torch.no_grad():
        expected = theirs(ids).logits
        ours = model(ids, SequenceLayout.rows(*ids.shape))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "bound"), [("f16", 2.0**-11), ("bf16", 2.0**-8), ("q8_0", 0.57 / 127), ("q4_0", 1 / 8)])
@torch.no_grad()
def test_weights_are_no_further_off_than_their_type_rounds(kind, bound, tmp_path):
    config = LLAMA.replace(**SIZES)
    model = random_model(config)
    save_gguf(model, config, tmp_path / "model.gguf", kind)
    again = dict(load_gguf(tmp_path / "model.gguf", config).named_parameters())
    moved = 0.0
    for name, ours in model.named_parameters():
        if ours.ndim == 1:
            assert torch.equal(again[name], ours), f"{name} is a vector, and was rounded"
            continue
        blocks, read = ours.view(-1, 32), again[name].view(-1, 32)
        largest = blocks.abs() if kind in ("f16", "bf16") else blocks.abs().amax(1, keepdim=True)
        assert bool(((read - blocks).abs() <= largest * bound * (1 + 2**-9) + 6e-8).all()), name
        moved = max(moved, float((read - blocks).abs().max()))
    assert moved > 0
    assert (tmp_path / "model.gguf").stat().st_size < {"f16": 0.6, "bf16": 0.6, "q8_0": 0.4, "q4_0": 0.3}[kind] * 4 * config.n_params


def test_rows_that_no_blocks_fill_are_written_in_f16(tmp_path):
    model = random_model(LLAMA)
    save_gguf(model, LLAMA, tmp_path / "model.gguf", "q8_0")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert (kinds["token_embd.weight"], kinds["output_norm.weight"]) == ("F16", "F32")


@pytest.mark.parametrize(("config", "told"), [
    (BertConfig(vocab_size=61, d_model=24, n_layers=1, n_heads=4), "a BertConfig cannot be written as GGUF; those that can are Gemma2Config"),
    (MISTRAL, "MistralConfig.window=7 cannot be written as GGUF: llama.cpp's llama has None"),
    (QWEN3.replace(windows=(None, 6)), "Qwen3Config.windows="),
    (GEMMA3, r"Gemma3Config.windows=\(5, 5, None\) cannot be written as GGUF: llama.cpp's gemma3 has \(5,\)"),
    (GEMMA2.replace(query_pre_attn_scalar=23), "Gemma2Config.query_pre_attn_scalar=23"),
    (GEMMA2.replace(attention_softcap=None), "Gemma2Config.attention_softcap=None"),
    (GEMMA2.replace(tie_embeddings=False), "Gemma2Config.tie_embeddings=False"),
    (QWEN3.replace(rope_scaling=Llama3Scaling(factor=4)), "Qwen3Config.rope_scaling="),
    (LLAMA.replace(rope_scaling=YarnScaling(factor=4, original_max_seq_len=16)), "LinearScaling, NTKScaling, Llama3Scaling can"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_what_llama_cpp_would_compute_otherwise_is_refused(config, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        save_gguf(random_model(config), config, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_model_is_refused(tmp_path):
    save_gguf(random_model(LLAMA), LLAMA, tmp_path / "model.gguf")
    with pytest.raises(DataError, match="do not both have"):
        load_gguf(tmp_path / "model.gguf", Gpt2Config(vocab_size=61, d_model=24, n_layers=2, n_heads=4))
    with pytest.raises(DataError, match="has shape"):
        load_gguf(tmp_path / "model.gguf", LLAMA.replace(d_ff=41))
    (tmp_path / "torn.gguf").write_bytes((tmp_path / "model.gguf").read_bytes()[:90])
    with pytest.raises(DataError, match=r"torn.gguf does not read as GGUF"):
        load_gguf(tmp_path / "torn.gguf", LLAMA)
