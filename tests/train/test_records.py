"""Metrics as lines, the line of progress."""

import json

from bloomery.train import StepReport
from bloomery.train.records import Lines, Progress


def test_lines_beyond_the_resumed_step_and_torn_ones_are_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = Lines(path, None)
    for step in range(1, 6):
        lines.write(step, loss=step / 2)
    lines.close()
    with open(path, "a") as file:
        file.write('{"step": 6, "lo')
    resumed = Lines(path, 3)
    resumed.write(4, loss=9.0)
    resumed.close()
    assert [(r["step"], r["loss"]) for r in map(json.loads, path.read_text().splitlines())] == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 9.0)]


def test_a_run_from_the_start_begins_with_an_empty_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')
    Lines(tmp_path / "metrics.jsonl", None).close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_progress_names_loss_speed_and_time_left():
    said = []
    progress = Progress(10, said.append)
    progress.show(StepReport(step=4, loss=2.5, grad_norm=1, learning_rate=1e-3, tokens=4000, learnt=900, seconds=2.0, tokens_per_s=500.0), 0.5)
    progress.close()
    assert said == ["step 4/10  loss 2.500  500 tokens/s (50% of the matrix rate)  12.0s left"]
