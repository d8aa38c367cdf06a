"""A published checkpoint: the 260k-parameter story model of llama2.c, against its original file and logits computed by a peer."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.generate import Greedy, stream
from bloomery.models import load_hub
from bloomery.nn import SequenceLayout

pytestmark = pytest.mark.real


@pytest.fixture
def folder(real_data: Path) -> Path:
    found = real_data / "F_models" / "stories260K"
    if not found.exists():
        pytest.skip(f"needs the checkpoint in {found}")
    return found


def test_logits_are_the_reference_logits(folder):
    _, model = load_hub(folder / "hf")
    reference = np.load(folder / "reference_logits.npz")
    for i in range(4):
        ids, expected = torch.from_numpy(reference[f"ids{i}"])[None], torch.from_numpy(reference[f"logits{i}"])
        with torch.no_grad():
            logits = model(ids, SequenceLayout.rows(*ids.shape))[0]
        torch.testing.assert_close(logits, expected, atol=5e-5, rtol=0)  # logits reach 20, where 1e-5 is five units in the last place


def test_greedy_text_is_the_reference_text(folder):
    _, model = load_hub(folder / "hf")
    expected = np.load(folder / "reference_logits.npz")["greedy200"].tolist()
    assert list(stream(model, expected[:1], Greedy(), stop_ids=[], max_new_tokens=200)) == expected[1:]


def test_weights_are_those_of_the_original_file(folder):
    config, model = load_hub(folder / "hf")
    dim, d_ff, n_layers, n_heads, n_kv_heads, vocab_size, max_seq_len = struct.unpack("7i", (folder / "stories260K.bin").read_bytes()[:28])
    assert (config.d_model, config.d_ff, config.n_layers, config.n_heads) == (dim, d_ff, n_layers, n_heads)
    assert (config.n_kv_heads, config.vocab_size, config.max_seq_len) == (n_kv_heads, vocab_size, max_seq_len)
    data = torch.from_numpy(np.fromfile(folder / "stories260K.bin", dtype=np.float32, offset=28))
    kv = n_kv_heads * config.head_dim
    shapes = {
        "embedding": (vocab_size, dim), "mixer_norm": (n_layers, dim),
        "q": (n_layers, dim, dim), "k": (n_layers, kv, dim), "v": (n_layers, kv, dim), "out": (n_layers, dim, dim),
        "ff_norm": (n_layers, dim), "gate": (n_layers, d_ff, dim), "down": (n_layers, dim, d_ff), "up": (n_layers, d_ff, dim), "norm": (dim,),
    }
    parts = dict(zip(shapes, data[: sum(map(np.prod, shapes.values()))].split([int(np.prod(s)) for s in shapes.values()]), strict=True))
    theirs = {name: part.view(shapes[name]) for name, part in parts.items()}
    ours = dict(model.named_parameters())
    assert torch.equal(ours["embedding.weight"], theirs["embedding"])
    assert torch.equal(ours["norm.weight"], theirs["norm"])
    for i in range(n_layers):
        start, end = f"blocks.{i}.", ".weight"
        block = {name.removeprefix(start).removesuffix(end): tensor for name, tensor in ours.items() if name.startswith(start)}
        q, k = (halves_from_neighbours(theirs[name][i], config.head_dim) for name in "qk")
        assert torch.equal(block["mixer.qkv"], torch.cat((q, k, theirs["v"][i])))
        assert torch.equal(block["ff.gate_up"], torch.cat((theirs["gate"][i], theirs["up"][i])))
        for ours_name, name in (("mixer_norm", "mixer_norm"), ("mixer.out", "out"), ("ff_norm", "ff_norm"), ("ff.down", "down")):
            assert torch.equal(block[ours_name], theirs[name][i])


def halves_from_neighbours(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    """The original turns features 2i and 2i + 1 together, and hub checkpoints i and i + head_dim/2: the same rows in another order."""
    return weight.view(-1, head_dim // 2, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)  # (heads, 2, head_dim / 2, d_model)
