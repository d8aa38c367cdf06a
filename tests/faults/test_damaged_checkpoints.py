"""A checkpoint of two ranks of which one file is damaged: both go back to the one before, and end where an undisturbed run does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mesh.ranks import on_ranks
from tests.train.resuming import SAVED, STEPS, go, go_all
from tests.train.toys import same

NEWEST = f"step-{STEPS:08}"
LAST = f"{NEWEST}/rank-00001"


def flip(path: Path) -> None:
    """Changes a byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Loses the second half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a byte of the first rank's numbers": (f"{NEWEST}/rank-00000.safetensors", flip),
    "a byte of the last rank's": (f"{LAST}.safetensors", flip),
    "half of the last rank's": (f"{LAST}.safetensors", cut), "all of the last rank's": (f"{LAST}.safetensors", Path.unlink),
    "a byte of what the last rank says of them": (f"{LAST}.json", flip), "all of what it says": (f"{LAST}.json", Path.unlink),
    "a byte of the manifest": (f"{NEWEST}/manifest.json", flip), "all of the manifest": (f"{NEWEST}/manifest.json", Path.unlink),
}  # fmt: skip


def test_both_ranks_go_back_to_the_checkpoint_before(tmp_path: Path):
    undisturbed = on_ranks(2, go, "shard=2", tmp_path / "whole")
    runs: list[dict[str, Any]] = []
    for number, (file, damage) in enumerate(DAMAGES.values()):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / str(number))
        damage(folder / file)
        runs.append({"layout": "shard=2", "resumes": folder})
    for folder in (tmp_path / "elsewhere", tmp_path / "nothing left"):
        shutil.copytree(tmp_path / "whole", folder)
        flip(folder / f"{LAST}.safetensors")
    cut(tmp_path / "nothing left" / f"step-{SAVED:08}" / "rank-00000.safetensors")
    others = [{"layout": "tensor=2", "resumes": tmp_path / "elsewhere"}, {"layout": "shard=2", "resumes": tmp_path / "nothing left"}]
    for rank, found in enumerate(on_ranks(2, go_all, [*runs, *others])):
        *damaged, elsewhere, nothing = found
        for what, run in zip(DAMAGES, damaged, strict=True):
            assert run["began"] == SAVED, what
            assert run["losses"] == {step: undisturbed[rank]["losses"][step] for step in range(SAVED + 1, STEPS + 1)}, what
            assert same(run["weights"], undisturbed[rank]["weights"]), what
            if rank == 0:
                trouble, going_on = run["said"]
                file = DAMAGES[what][0]
                torn = f"{NEWEST} is torn: it was being written when the run ended"
                assert trouble.startswith(torn if what == "all of the manifest" else f"{file} is damaged: its checksum is not the one written")
                assert trouble.endswith("; going back to the checkpoint before it")
                assert going_on == f"going on from step {SAVED}"
            else:
                assert not run["said"]
        assert elsewhere["began"] == SAVED
        assert nothing["began"] == 0
        assert nothing["losses"] == undisturbed[rank]["losses"]
        if rank == 0:
            assert elsewhere["said"][1] == f"going on from step {SAVED}, which was written under shard=2"
            assert nothing["said"][2] == "no checkpoint is whole; starting again from step 0"
    assert not (tmp_path / "0" / NEWEST).exists(), "what is damaged goes"
