"""Files of tensors that are written one after the other are those that the library writes at once."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bloomery.models.tensor_file import in_order, kinds_of, write_tensors
from bloomery.store import sha256_of


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> str:
    kinds = kinds_of(list(tensors.items()))
    with open(path, "wb") as file:
        return write_tensors(file, kinds, (tensors[name] for name in in_order(kinds)), metadata)


def test_the_bytes_are_those_of_the_library(tmp_path: Path):
    tensors = {"b.ü": torch.randn(3, 4), "a": torch.randn(()), "c": torch.zeros(0, 3), "d": torch.randn(4, 6).T.contiguous()}
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    assert write(tmp_path / "ours", tensors, {"format": "pt"}) == sha256_of(tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_every_type_comes_back_as_it_was(tmp_path: Path):
    tensors = {
        "half": torch.randn(3).half(), "brain": torch.randn(2, 2).bfloat16(), "double": torch.randn(2).double(), "step": torch.tensor(7.0),
        "codes": torch.arange(5, dtype=torch.uint8), "mask": torch.tensor([True, False]), "long": torch.tensor([1 << 40]),
        "view": torch.randn(4, 6)[:, 1:3],
    }  # fmt: skip
    write(tmp_path / "file", tensors)
    back = load_file(tmp_path / "file")
    assert back.keys() == tensors.keys()
    assert all(back[name].dtype == value.dtype and torch.equal(back[name], value) for name, value in tensors.items())
