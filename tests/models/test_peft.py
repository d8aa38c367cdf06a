"""Adapters beside the peft library, on the same weights: fresh, trained, merged; files of ours read there, and theirs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.cases import CASES
from tests.models.test_parity import random_model, theirs_of, tokens_of

from bloomery.core.errors import DataError
from bloomery.models import AdaptedConfig, HubConfig, attach_adapter, load_adapter, save_adapter
from bloomery.models.model import Model
from bloomery.models.peft_lora import tied_heads
from bloomery.nn import SequenceLayout
from bloomery.nn.adapters import Adapter, Bottleneck, DoRA, LoRA, PrefixTuning, PromptTuning, PTuning, QLoRA, RsLoRA, merge

peft = pytest.importorskip("peft", reason="parity needs the peft library")
pytestmark = pytest.mark.filterwarnings("ignore")
LLAMA = CASES["llama"]

LOW_RANK = {
    "every matrix of a llama": (LLAMA, LoRA(rank=4)),
    "two of three in one, and a head": (LLAMA.replace(tie_embeddings=False), LoRA(rank=4, alpha=3.0, targets=("query", "value", "head"))),
    "a head that is tied": (LLAMA.replace(tie_embeddings=True), LoRA(rank=4, targets=("head", "ff.down"))),
    "rank-stabilised, one layer": (LLAMA, RsLoRA(rank=4, alpha=4.0, targets=("blocks.1",))),
    "lengths and directions": (LLAMA, DoRA(rank=4)),
    "three in one there too": (CASES["gpt2"], LoRA(rank=3, targets=("mixer", "ff"))),
    "three in one, rank-stabilised": (CASES["gpt2"], RsLoRA(rank=3, alpha=4.0)),
    "three in one, by length": (CASES["gpt2"], DoRA(rank=3)),
    "an encoder": (CASES["bert"], LoRA(rank=4, alpha=4.0, targets=("mixer", "ff", "embedding"))),
    "maps of places are the maps of words": (CASES["deberta"], LoRA(rank=4, alpha=4.0)),
    "attention beside experts": (CASES["olmoe"], LoRA(rank=4, alpha=4.0, targets=("mixer",))),
}  # fmt: skip


def logits(model: Model, config: HubConfig) -> torch.Tensor:
    ids = tokens_of(config)
    with torch.no_grad():
        return model(ids, SequenceLayout.rows(*ids.shape, causal=config.reads_forward))


def learnt(config: HubConfig, adapter: Adapter, spread: float = 0.1) -> tuple[Model, dict[str, torch.nn.Parameter]]:
    """A model with an adapter that is no longer fresh."""
    model, generator = random_model(config), torch.Generator().manual_seed(11)
    trained = adapter.attach(model, seed=1)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    model.config = AdaptedConfig(base=config, adapter=adapter)
    return model, trained


def theirs_with(config: HubConfig, folder: Path, adapter: Path) -> Any:
    return peft.PeftModel.from_pretrained(theirs_of(random_model(config), config, folder), adapter, is_trainable=True).eval()


def exactly(theirs: Any) -> Any:
    """Their model in float64, where it rounds to float32 of its own accord as well (norms, softmax), so that what is left is what is meant."""
    theirs = theirs.double()
    inner = theirs.get_base_model()
    inner.set_attn_implementation("sdpa")
    if hasattr(inner, "set_experts_implementation"):
        inner.set_experts_implementation("eager")
    for module in list(theirs.modules()):
        for name, norm in list(module.named_children()):
            if type(norm).__name__.endswith("RMSNorm"):
                exact = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon)
                exact.weight = norm.weight
                setattr(module, name, exact)
    return theirs


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.dtype == theirs.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def their_logits(model: Any, config: HubConfig) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens_of(config)).logits


@pytest.mark.parametrize(("config", "adapter"), LOW_RANK.values(), ids=LOW_RANK.keys())
def test_low_rank_adapters_say_the_same_there_and_come_back_the_same(config, adapter, tmp_path):
    model, trained = learnt(config, adapter)
    save_adapter(tmp_path / "ours", model.config, trained)
    theirs = theirs_with(config, tmp_path / "base", tmp_path / "ours")
    expected = logits(model, config)
    torch.testing.assert_close(their_logits(theirs, config), expected, atol=1e-5, rtol=1e-6)
    theirs.save_pretrained(tmp_path / "theirs")
    adapted = logits(model.double(), config)
    same(their_logits(exactly(theirs), config), adapted)
    merge(model)
    same(logits(model, config), adapted)
    if not {"head", "embedding"}.intersection(adapter.targets) or not tied_heads(config):  # theirs adds to one matrix twice what it has for two
        same(their_logits(theirs.merge_and_unload(), config), adapted)
    again = random_model(config)
    attach_adapter(again, tmp_path / "theirs")
    torch.testing.assert_close(logits(again, config), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("theirs", [
    {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]},
    {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "use_rslora": True},
    {"r": 3, "lora_alpha": 5, "target_modules": ["o_proj", "down_proj"], "use_dora": True},
    {"r": 2, "lora_alpha": 5, "target_modules": ["q_proj", "up_proj"], "rank_pattern": {"up_proj": 5}, "alpha_pattern": {"q_proj": 1}},
    {"r": 2, "lora_alpha": 5, "target_modules": ["k_proj"], "layers_to_transform": [1]},
    {"r": 2, "target_modules": ["embed_tokens", "lm_head"]},
    {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
], ids=str)  # fmt: skip
def test_adapters_made_there_say_the_same_here(theirs, tmp_path):
    config = LLAMA.replace(tie_embeddings=False)
    model = theirs_of(random_model(config), config, tmp_path / "base")
    torch.manual_seed(3)
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **theirs)).eval()
    adapted.save_pretrained(tmp_path / "theirs")
    ours = random_model(config)
    attach_adapter(ours, tmp_path / "theirs")
    same(logits(ours.double(), config), their_logits(exactly(adapted), config))


def test_one_matrix_with_three_in_it_is_read_as_three_that_share_an_a(tmp_path):
    config = CASES["gpt2"]
    model = theirs_of(random_model(config), config, tmp_path / "base")
    torch.manual_seed(3)
    wanted = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, r=4, target_modules=["c_attn"], fan_in_fan_out=True)
    adapted = peft.get_peft_model(model, wanted).eval()
    adapted.save_pretrained(tmp_path / "theirs")
    ours = random_model(config)
    attach_adapter(ours, tmp_path / "theirs")
    same(logits(ours.double(), config), their_logits(exactly(adapted), config))


@pytest.mark.parametrize("adapter", [LoRA(rank=4), DoRA(rank=4)], ids=str)
def test_the_same_steps_lead_to_the_same_weights(adapter, tmp_path):
    model, trained = learnt(LLAMA, adapter, spread=0.0)
    save_adapter(tmp_path / "fresh", model.config, trained)
    theirs, ids = theirs_with(LLAMA, tmp_path / "base", tmp_path / "fresh"), tokens_of(LLAMA)
    before = logits(random_model(LLAMA), LLAMA)
    assert torch.equal(logits(model, LLAMA), before)
    assert torch.equal(their_logits(theirs, LLAMA), their_logits(theirs.get_base_model(), LLAMA))
    model, theirs = model.double(), exactly(theirs)
    sides = [list(trained.values()), [p for p in theirs.parameters() if p.requires_grad]]
    assert sum(p.numel() for p in sides[0]) == sum(p.numel() for p in sides[1])
    optimizers = [torch.optim.SGD(side, lr=0.05) for side in sides]
    for _ in range(5):
        mine = model(ids, SequenceLayout.rows(*ids.shape))[:, :-1].flatten(0, 1)
        others = theirs(input_ids=ids).logits[:, :-1].flatten(0, 1)
        for optimizer, output in zip(optimizers, (mine, others), strict=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(output, ids[:, 1:].flatten()).backward()
            optimizer.step()
    assert (logits(model, LLAMA) - before.double()).abs().max() > 1e-2
    same(logits(model, LLAMA), their_logits(theirs, LLAMA))
    merge(model)
    same(logits(model, LLAMA), their_logits(theirs.merge_and_unload(), LLAMA))


def test_an_adapter_that_would_part_a_head_from_its_table_is_refused(tmp_path):
    config = LLAMA.replace(tie_embeddings=True)
    model = theirs_of(random_model(config), config, tmp_path / "base")
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["embed_tokens"]))
    adapted.save_pretrained(tmp_path / "theirs")
    with pytest.raises(DataError, match="so that the two would come apart"):
        load_adapter(tmp_path / "theirs", config)


def test_an_adapter_of_another_model_is_refused_by_name(tmp_path):
    model, trained = learnt(LLAMA, LoRA(rank=2))
    save_adapter(tmp_path, model.config, trained)
    with pytest.raises(DataError, match=r"a Gpt2Config has no such module; it is for another model"):
        load_adapter(tmp_path, CASES["gpt2"])
    with pytest.raises(DataError, match=r"download both"):
        load_adapter(tmp_path / "nowhere", LLAMA)


@pytest.mark.parametrize("adapter", [
    PromptTuning(n_tokens=5), PTuning(n_tokens=4), PrefixTuning(n_tokens=6), PrefixTuning(n_tokens=3, projection=10),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("config", [LLAMA, CASES["gpt2"]], ids=["llama", "gpt2"])
def test_prompts_and_prefixes_say_the_same_there_and_come_back_the_same(config, adapter, tmp_path):
    model, trained = learnt(config, adapter)
    save_adapter(tmp_path / "ours", model.config, trained)
    theirs = peft.PeftModel.from_pretrained(theirs_of(random_model(config), config, tmp_path / "base"), tmp_path / "ours").eval()
    expected, ids = logits(model, config), tokens_of(config)
    said = their_logits(theirs, config)
    torch.testing.assert_close(said[:, -ids.shape[1] :], expected, atol=1e-5, rtol=1e-6)
    theirs.save_pretrained(tmp_path / "theirs")
    same(their_logits(exactly(theirs), config)[:, -ids.shape[1] :], logits(model.double(), config))
    again = random_model(config)
    attach_adapter(again, tmp_path / "theirs")
    torch.testing.assert_close(logits(again, config), expected, atol=1e-6, rtol=1e-6)


def test_the_prompt_encoder_is_theirs_exactly():
    width, n = 24, 7
    ours = PTuning(n_tokens=n).vectors(width)
    theirs = peft.PromptEncoder(peft.PromptEncoderConfig(
        peft_type="P_TUNING", task_type="CAUSAL_LM", num_virtual_tokens=n, token_dim=width, num_transformer_submodules=1, num_attention_heads=2,
        num_layers=2, encoder_reparameterization_type="LSTM", encoder_hidden_size=width // 2,
    )).eval()  # fmt: skip
    names = {"weight": "embedding.weight"} | {f"lstm.{name}": f"lstm_head.{name}" for name, _ in ours.lstm.named_parameters()}
    names |= {f"{mine}.{one}": f"mlp_head.{number}.{one}" for mine, number in (("into", 0), ("out", 2)) for one in ("weight", "bias")}
    state = theirs.state_dict()
    assert set(names.values()) == state.keys()
    ours.load_state_dict({mine: state[other] for mine, other in names.items()})
    mine, others = ours.vectors(), theirs(torch.arange(n)[None])[0]
    assert torch.equal(mine, others)
    mine.square().sum().backward()
    others.square().sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert all(torch.equal(p.grad, gradients[names[name]]) for name, p in ours.named_parameters())


@pytest.mark.parametrize("adapter", [Bottleneck(width=4), PTuning(n_tokens=3, template=(0, 2, 2))], ids=str)
def test_what_the_library_has_no_words_for_is_kept_in_ours(adapter, tmp_path):
    model, trained = learnt(LLAMA, adapter)
    save_adapter(tmp_path, model.config, trained)
    again, weights = load_adapter(tmp_path, LLAMA)
    assert again == adapter
    assert weights.keys() == trained.keys()


def test_an_adapter_of_a_quantised_base_is_a_lora_there(tmp_path):
    model, trained = learnt(LLAMA, QLoRA(rank=3))
    save_adapter(tmp_path, model.config, trained)
    adapter, _ = load_adapter(tmp_path, LLAMA)
    assert type(adapter) is LoRA
    assert adapter.rank == 3
