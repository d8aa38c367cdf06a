"""Ranks on this machine, for real: they meet, one that fails ends them all, signals reach them, and failures are tried again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MEET = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor(float(dist.get_rank() + 1))
dist.all_reduce(total)
open(f"{os.environ['RANK']}.met", "w").write(f"{total.item():g} of {dist.get_world_size()}")
dist.destroy_process_group()
"""
WAIT = """
import os, signal, sys, time
from pathlib import Path
rank = os.environ["RANK"]
def told(number, frame):
    Path(f"{rank}.told").touch()
    sys.exit(5)
signal.signal(signal.SIGTERM, told)
Path(f"{rank}.pid").write_text(str(os.getpid()))
while len(sys.argv) == 2 and rank == "1":
    if Path("0.pid").exists():
        os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""
FAIL_ONCE = """
import os, sys
from pathlib import Path
rank, again = os.environ["RANK"], Path("again").exists()
if rank == "1" and not again:
    Path("again").touch()
    sys.exit(7)
Path(f"{rank}.done").touch()
"""
LAUNCHER = """
import json, os, sys
from bloomery.cli.launch.torchrun import torchrun
for folder, script, restarts, arguments in json.loads(sys.argv[1]):
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    open("rank.py", "w").write(script)
    code = torchrun([sys.executable, "rank.py", *arguments], 2, restarts)
    print(f"=== {code}", flush=True, file=sys.stderr)
sys.exit(code)
"""


def launch(*runs: tuple[Path, str, int, list[str]]) -> subprocess.Popen:
    """A process that launches scripts one after the other, each in its folder, and tells their exit codes."""
    told = json.dumps([(str(folder), *rest) for folder, *rest in runs])
    environment = {"PYTHONPATH": str(Path(__file__).parents[3] / "src"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", LAUNCHER, told], env=environment, stderr=subprocess.PIPE, text=True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Folder → what the launcher said of the run in it, its exit code last."""
    folder = tmp_path_factory.mktemp("launched")
    runs = {"meet": (MEET, 0, []), "killed": (WAIT, 0, ["kill"]), "fails": (FAIL_ONCE, 0, []), "again": (FAIL_ONCE, 1, [])}
    _, said = launch(*((folder / name, *run) for name, run in runs.items())).communicate(timeout=170)
    assert "Traceback" not in said, said
    found, words = {}, ""
    for line in said.splitlines():
        if line.startswith("=== "):
            found[list(runs)[len(found)]], words = (words, int(line[4:])), ""
        else:
            words += line
    return folder, found


def test_ranks_meet_and_add_up(launched):
    folder, said = launched
    assert said["meet"] == ("", 0)
    assert [(folder / "meet" / f"{rank}.met").read_text() for rank in (0, 1)] == ["3 of 2", "3 of 2"]


def test_a_rank_that_is_killed_ends_all_and_is_named(launched):
    folder, said = launched
    words, code = said["killed"]
    assert code == 128 + signal.SIGKILL
    assert "rank 1 of 2 ended with SIGKILL" in words
    assert (folder / "killed" / "0.told").exists()
    assert not alive(int((folder / "killed" / "0.pid").read_text()))


def test_a_failure_is_tried_again_as_often_as_asked(launched):
    folder, said = launched
    assert said["fails"][1] == 7
    assert "rank 1 of 2 ended with exit code 7" in said["fails"][0]
    assert said["again"] == ("", 0)
    assert (folder / "again" / "1.done").exists()


def test_sigterm_reaches_all_ranks(tmp_path):
    launcher = launch((tmp_path, WAIT, 0, []))
    files = [tmp_path / f"{rank}.pid" for rank in (0, 1)]
    deadline = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < deadline:
        time.sleep(0.05)
    launcher.send_signal(signal.SIGTERM)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in said
    assert "Traceback" not in said
    assert [(tmp_path / f"{rank}.told").exists() for rank in (0, 1)] == [True, True]
    assert not any(alive(int(file.read_text())) for file in files)
