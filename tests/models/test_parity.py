"""Every named family beside transformers, on the same random weights: logits, loss and gradients; padded, packed, cached; out and in again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.models.cases import CASES, ENCODER_DECODER_CASES, unlike_version_4

from bloomery.core.config import flatten
from bloomery.data.batch import Batch
from bloomery.models import FAMILIES, ExportableConfig, HubConfig, Model, config_from_plain, load_hub, save_hub
from bloomery.models.checkpoint import whole_config
from bloomery.nn import SequenceLayout
from bloomery.objectives import CausalLM, Models

transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
VERSION = int(transformers.__version__.split(".")[0])
TOLERANCE: dict[str, float] = {}
"""Largest difference of logits for families that are allowed more than 1e-5."""

every_family = pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())
every_decoder = pytest.mark.parametrize(
    "config", [c for c in CASES.values() if c.reads_forward], ids=[name for name, c in CASES.items() if c.reads_forward]
)

parted = {name: c for name, c in CASES.items() if getattr(c, "n_parts", 1) > 1}


def random_model(config: ExportableConfig) -> Model:
    """Weights large enough to show, and no two parameters alike."""
    model, generator = config.build(1), torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data = (parameter.data + torch.rand(parameter.shape, generator=generator)) * 0.7
        else:
            parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
    return model.eval()


def theirs_of(model: Model, config: ExportableConfig, folder: Path) -> Any:
    if VERSION == 4 and (why := unlike_version_4(config)):
        pytest.skip(f"version 4 of transformers: {why}")
    save_hub(model, config, folder)
    kind = getattr(transformers, config.to_hub()["architectures"][0])
    theirs, report = kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return theirs.eval()


def skip_where_they_cannot_write(config: HubConfig) -> None:
    if VERSION == 4 and config.hub_type == "mamba2" and config.tie_embeddings:
        pytest.skip("version 4 of transformers does not write a tied Mamba-2 as safetensors")


def tokens_of(config: ExportableConfig, rows: int = 2, time: int = 33) -> torch.Tensor:
    return torch.randint(5, config.vocab_size, (rows, time), generator=torch.Generator().manual_seed(2))  # ids below 5 may mean padding


def close(ours: torch.Tensor, theirs: torch.Tensor, config: HubConfig) -> None:
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE.get(config.hub_type, 1e-5), rtol=0)


def gradients(model: Any, write: Any, folder: Path) -> dict[str, torch.Tensor]:
    """The gradients under the names that the weights have on the hub: written in place of the weights, and read."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    write(folder)
    return load_file(folder / "model.safetensors")


def gradients_are_equal(model: Any, config: HubConfig, theirs: Any, folder: Path, atol: float = 1e-5) -> None:
    """Both have had their backward pass; their weights are gradients afterwards."""
    mine = gradients(model, lambda folder: save_hub(model, config, folder), folder / "ours")
    others = gradients(theirs, lambda folder: theirs.save_pretrained(folder, safe_serialization=True), folder / "theirs")
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, others[name], atol=atol, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@every_family
def test_logits_are_theirs(config, tmp_path):
    model, ids = random_model(config), tokens_of(config)
    theirs = theirs_of(model, config, tmp_path)
    with torch.no_grad():
        close(model(ids, SequenceLayout.rows(*ids.shape, causal=config.reads_forward)), theirs(input_ids=ids).logits, config)


@every_family
def test_padded_rows_are_theirs(config, tmp_path):
    model, ids, lengths = random_model(config), tokens_of(config), (33, 20)
    theirs = theirs_of(model, config, tmp_path)
    real = (torch.arange(33) < torch.tensor(lengths)[:, None]).long()
    ids = ids * real + (1 - real)
    with torch.no_grad():
        ours, their_logits = model(ids, SequenceLayout.packed(real, config.reads_forward)), theirs(input_ids=ids, attention_mask=real).logits
    for row, n in enumerate(lengths):
        close(ours[row, :n], their_logits[row, :n], config)


@every_family
def test_packed_documents_are_each_as_theirs_alone(config, tmp_path):
    model, ids = random_model(config), tokens_of(config)
    theirs = theirs_of(model, config, tmp_path)
    segments = torch.tensor([[1] * 9 + [2] * 19 + [3] * 5, [1] * 15 + [2] * 14 + [0] * 4])
    with torch.no_grad():
        packed = model(ids, SequenceLayout.packed(segments, config.reads_forward))
        for row, start, end in ((0, 0, 9), (0, 9, 28), (0, 28, 33), (1, 0, 15), (1, 15, 29)):
            close(packed[row, start:end], theirs(input_ids=ids[row : row + 1, start:end]).logits[0], config)


@pytest.mark.parametrize("config", parted.values(), ids=parted.keys())
def test_parts_of_documents_are_their_token_types(config, tmp_path):
    model, ids = random_model(config), tokens_of(config)
    theirs, parts = theirs_of(model, config, tmp_path), torch.tensor([[0] * 12 + [1] * 21, [0] * 33])
    layout = SequenceLayout.rows(*ids.shape, causal=config.reads_forward)
    with torch.no_grad():
        ours = model(ids, replace(layout, parts=parts))
        close(ours, theirs(input_ids=ids, token_type_ids=parts).logits, config)
        assert (ours - model(ids, layout)).abs().max() > 0.01


@every_decoder
@pytest.mark.parametrize("pieces", [[1] * 33, [5, 7, 20, 1], [32, 1]], ids=("one by one", "in pieces", "the last alone"))
def test_cached_logits_are_theirs(config, pieces, tmp_path):
    model, ids = random_model(config), tokens_of(config)
    theirs = theirs_of(model, config, tmp_path)
    cache, read, start = model.new_cache(*ids.shape), [], 0
    with torch.no_grad():
        for n in pieces:
            read.append(model(ids[:, start : start + n], SequenceLayout(torch.arange(start, start + n).expand(2, n)), cache))
            start += n
        close(torch.cat(read, 1), theirs(input_ids=ids).logits, config)


@every_family
def test_loss_and_gradients_are_theirs(config, tmp_path):
    skip_where_they_cannot_write(config)
    model, ids = random_model(config), tokens_of(config)
    theirs = theirs_of(model, config, tmp_path)
    generator = torch.Generator().manual_seed(3)
    weight = (torch.rand(ids.shape, generator=generator) < 0.7).float()
    labels = ids.masked_fill(weight == 0, -100)
    if config.reads_forward:
        weight = weight.roll(-1, 1)
        weight[:, -1] = 0
    targets = ids.roll(-1, 1) if config.reads_forward else ids
    batch = Batch(ids, targets, weight, SequenceLayout.rows(*ids.shape, causal=config.reads_forward))
    (summed,) = CausalLM()(Models(model), batch)
    loss = summed.total / summed.weight
    their_loss = theirs(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(loss, their_loss, atol=1e-5, rtol=0)
    loss.backward()
    their_loss.backward()
    gradients_are_equal(model, config, theirs, tmp_path, TOLERANCE.get(config.hub_type, 1e-5))


@every_family
def test_out_through_transformers_and_in_again_is_exact(config, tmp_path):
    skip_where_they_cannot_write(config)
    model = random_model(config)
    theirs_of(model, config, tmp_path / "ours").save_pretrained(tmp_path / "theirs", safe_serialization=True)
    read, back = load_hub(tmp_path / "theirs")
    assert read.replace(init=config.init) == config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


@every_family
def test_parameters_are_as_many_as_theirs(config, tmp_path):
    model = random_model(config)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert config.n_params == trained == theirs_of(model, config, tmp_path).num_parameters()


@every_family
def test_its_config_is_read_back_from_plain_data(config):
    assert config_from_plain(whole_config(config)) == config
    assert flatten(config_from_plain(config.identity()).identity()) == flatten(config.identity())


def test_every_family_has_a_case():
    assert {type(config) for config in (CASES | ENCODER_DECODER_CASES).values()} == set(FAMILIES.values())
