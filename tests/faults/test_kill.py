"""kill -9 at any moment, then the same command: it goes on, and ends in the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bloomery.store import Artifact, Store

ROOT = Path(__file__).parents[2]
TIMED = {"metrics.jsonl", "summary.json", "report.txt", "report.html"}  # these tell durations, which no two runs share
KILLS = 2


def start(store: Path) -> subprocess.Popen:
    """The user's command, in a process group of its own, saving twenty times as often as usual."""
    code = (
        "import sys; from bloomery.recipe import load_recipe, run; "
        "from bloomery.stages.stage import RunContext; from bloomery.store import Store; "
        "run(load_recipe('tests/faults/tiny.py').set({}), RunContext(store=Store(sys.argv[1]), checkpoint_every_s=0.2, progress_every_s=60))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, str(store)], cwd=ROOT, env=environment, start_new_session=True, **pipes)


def results(store: Path) -> dict[str, str]:
    """Artifact and file → SHA-256, for every file that tells no durations; metrics without their timings."""
    found = {}
    for artifact in Store(store).artifacts():
        artifact.verify()
        for name, record in artifact.manifest.files.items():
            if name.split("/")[-1] not in TIMED and not name.startswith("tensorboard/"):
                found[f"{artifact.reference}/{name}"] = record.sha256
            elif name == "metrics.jsonl":
                found[f"{artifact.reference}/{name}"] = losses(artifact)
    return found


def losses(artifact: Artifact) -> str:
    lines = [json.loads(line) for line in artifact.file("metrics.jsonl").read_text().splitlines()]
    return json.dumps([{k: v for k, v in line.items() if k not in ("tokens_per_s", "utilisation", "seconds")} for line in lines])


@pytest.mark.timeout(400)
def test_killed_at_any_moment_the_same_command_ends_in_the_same_bytes(tmp_path: Path):
    began = time.monotonic()
    undisturbed = start(tmp_path / "undisturbed")
    output, _ = undisturbed.communicate()
    assert undisturbed.returncode == 0, output
    duration = time.monotonic() - began
    expected = results(tmp_path / "undisturbed")
    assert sum("model.safetensors" in name for name in expected) == 3

    moments, interrupted, disturbed = random.Random(20), [], tmp_path / "disturbed"
    while len(interrupted) < KILLS:
        process = start(disturbed)
        # A killed run keeps what it finished, so later ones start further on: the kills wander through the stages.
        time.sleep(duration * moments.uniform(0.15, 0.6))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            interrupted.append(process.communicate()[0].rstrip().splitlines()[-1:])
            partials = [p.name for p in disturbed.glob("*/*.partial")]
            print(f"kill {len(interrupted)}: in the midst of {partials or 'nothing'}; last line {interrupted[-1]}")
        else:
            assert process.returncode == 0, process.communicate()[0]
            assert results(disturbed) == expected, f"after {len(interrupted)} kills"
            disturbed = tmp_path / f"disturbed-{len(interrupted)}"  # it got through; kill another run from its beginning
    last = start(disturbed)
    output, _ = last.communicate()
    assert last.returncode == 0, output
    assert results(disturbed) == expected
