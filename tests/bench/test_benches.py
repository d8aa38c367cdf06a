"""The benchmarks that need hours or a GPU: tiny runs of them, so that they are there when they are needed."""

from __future__ import annotations

import json
import random

import pytest

from bench import time_to_bpb, train_gpu

TINY = ["--shape", "tiny", "--steps", "3", "--manner", "eager", "--threads", "1", "--levers", "muon,wsd"]


def line(side: str, curve: list[tuple[float, int, float]], **asked) -> str:
    """A finished run as it is on record."""
    about = {"side": side, "seed": 0, "shape": "tiny", "minutes": 25.0, "steps": 3, "manner": "eager", **asked}
    return json.dumps({"asked": about, "steps": 3, "seconds": curve[-1][0], "curve": curve}) + "\n"


def test_our_side_of_time_to_quality_is_measured_once(tmp_path):
    novels = tmp_path / time_to_bpb.NOVELS
    novels.mkdir(parents=True)
    for book in range(4):
        words = random.Random(book).choices(["iron", "ore", "coal", "bellows", "slag", "the", "burns", "and"], k=3000)
        (novels / f"Smith_{book}.txt").write_text(" ".join(words))
    options = time_to_bpb.parse(["ours", "--work", str(tmp_path), "--data", str(tmp_path), *TINY])
    for _ in range(2):
        time_to_bpb.run(options)
    (record,) = time_to_bpb.records(tmp_path)
    assert [tokens for _, tokens, _ in record["curve"]] == [128, 256, 384]
    assert all(0 < bpb < 8 for *_, bpb in record["curve"])


def test_the_table_tells_the_share_of_the_peers_time_and_what_a_lever_is_worth(tmp_path, capsys):
    (tmp_path / "results.jsonl").write_text(
        line("peer", [(10, 1, 3.0), (20, 2, 2.0)], lr=1e-3, rows=4)
        + line("peer", [(10, 1, 3.1), (20, 2, 2.5)], lr=2e-3, rows=4)
        + line("ours", [(6, 1, 2.2), (12, 2, 2.0), (14, 3, 1.8)], levers=["muon", "wsd"], rate=1.0, share=0.7)
        + line("ours", [(6, 1, 2.4), (14, 3, 2.1)], levers=["muon"], rate=1.0, share=0.7)
    )
    time_to_bpb.table(time_to_bpb.parse(["table", "--work", str(tmp_path), "--data", str(tmp_path), *TINY]))
    told = capsys.readouterr().out
    assert "the peer's 2.0000 bits per byte, medians of 1 and 1 seeds: 60.0% of its time" in told
    assert "without wsd: +0.3000 bits per byte at the end, the target never" in told
    assert (tmp_path / "time_to_bpb-tiny.svg").exists()


def test_a_turn_of_the_gpu_benchmark_is_taken_on_the_cpu():
    turn = train_gpu.Turn(contender=train_gpu.OURS, shape="tiny", micro_batch=2, steps=1, warm_up=1, device="cpu", compiled=False)
    measured = train_gpu.measure(turn)
    assert measured["seconds"] > 0
    assert measured["peak_bytes"] > 0


def test_micro_batches_are_halved_until_they_fit(monkeypatch):
    monkeypatch.setattr(train_gpu, "take", lambda turn, world: {"seconds": 1.0, "peak_bytes": 1} if turn.micro_batch <= 2 else None)
    turns = [train_gpu.Turn(contender=train_gpu.OURS, shape="tiny", micro_batch=16, steps=1, warm_up=1)]
    assert train_gpu.compare(turns, rounds=2, world=1)[train_gpu.OURS]["micro_batch"] == 2


@pytest.mark.parametrize(("card", "tflops"), [
    ("NVIDIA H100 80GB HBM3", 989.5), ("NVIDIA H100 PCIe", 756.5), ("NVIDIA H200", 989.5), ("NVIDIA A100-SXM4-80GB", 312.0),
    ("NVIDIA A10G", 70.0), ("NVIDIA L4", 121.0), ("NVIDIA L40S", 362.0),
])  # fmt: skip
def test_rates_of_cards_are_found_by_their_names(card, tflops):
    assert train_gpu.dense_bf16_rate(card) == tflops * 1e12


def test_a_card_that_is_not_in_the_list_has_no_utilisation():
    assert train_gpu.dense_bf16_rate("Voodoo 3") is None
