"""Running out of memory is told in one sentence: with the arithmetic, and the nearest setting that fits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from bloomery.core.errors import ResourceError
from bloomery.planning.memory import Memory
from bloomery.train import Manner, train
from bloomery.train.memory import Needs, asked_bytes, bytes_there, free_bytes, memory_told
from tests.train.toys import Uneven, course, fresh


def planned(rows: int, ranks: int = 1) -> Memory:
    """Weights of 100 MiB, and 50 MiB a row."""
    return Memory(
        weights=(100 << 20) / ranks, gradients=(100 << 20) / ranks, optimizer=(200 << 20) / ranks, activations=50 * rows << 20, logits=0.0,
        buffers=0.0, communication=0.0, moment="update",
    )  # fmt: skip


NEEDS = Needs(plan=planned, micro_batch=8, there=100 << 20)

# A step of 64 rows that take most of a gigabyte, in a process that may not have more than 400 MB beyond what it has when it begins; then, in
# other such processes, the same step in the way that the error tells. Addresses are not memory: gaps among them may ask for a second try.
SCRIPT = """
import multiprocessing, re, resource
from pathlib import Path

import numpy as np
import torch

torch.set_num_threads(1)
from bloomery.core.errors import ResourceError
from bloomery.data.source import Rows
from bloomery.models import LlamaConfig
from bloomery.mesh import Layout
from bloomery.objectives import CausalLM
from bloomery.optim import AdamW
from bloomery.train import Manner, TrainState, train
from bloomery.planning.memory import memory
from bloomery.stages.anatomy import Planned, anatomy_of
from bloomery.train.memory import Needs, bytes_there, memory_told
from tests.train.toys import Uneven, course

class Long(Uneven):
    time = 256

    def rows(self, first_row, rows):
        out = Rows.empty(rows, self.time, 0)
        out.tokens[:], out.segments[:], out.loss_weight[:] = np.arange(self.time) % 32, 1, 1
        return out

def step(micro_batch):
    model = LlamaConfig(vocab_size=32, d_model=48, n_layers=8, n_heads=2, d_ff=192, max_seq_len=256).build(0)
    state = TrainState(model, AdamW().build(model))

    def plan(rows):
        return max(memory(anatomy_of(Planned(config=model.config, time=256), rows), Layout(), 64), key=lambda one: one.total)

    with memory_told(Needs(plan=plan, micro_batch=micro_batch, there=bytes_there(state)), "cpu"):
        next(train(state, Long(), course(rows=64), Manner(micro_batch=micro_batch)))

def limited(micro_batch, told):
    used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
    try:
        step(micro_batch)
        told.put("done with " + str(micro_batch))
    except ResourceError as error:
        told.put(str(error))

fork = multiprocessing.get_context("fork")
told, rows = fork.SimpleQueue(), 64
while rows:
    child = fork.Process(target=limited, args=(rows, told))
    child.start()
    child.join()
    print(words := told.get())
    rows = int((re.search(r"--micro-batch (\\d+)", words) or [0, 0])[1])
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_a_process_that_runs_out_of_memory_says_what_would_fit_and_that_fits():
    environment = {
        **os.environ, "MALLOC_ARENA_MAX": "1",  # or threads would reserve more addresses than there is memory to be had
        "MALLOC_MMAP_THRESHOLD_": "65536",  # or the heap would have gaps where tensors were, how large is a matter of the threads' timing
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    told, *_, last = lines = done.stdout.splitlines()
    assert len(lines) <= 4
    assert told.startswith("memory of cpu is used up: weights ")
    assert "activations of 64 rows" in told
    assert "more were asked for" in told
    assert 2 <= int(last.removeprefix("done with ")) < 64


def test_the_arithmetic_adds_up():
    assert NEEDS.to_come == 700 << 20
    assert str(NEEDS) == "weights 100 MiB + gradients 100 MiB + optimiser 200 MiB + activations of 8 rows 400 MiB = 800 MiB"


@pytest.mark.parametrize(("free", "rows"), [(10_000 << 20, 7), (740 << 20, 4), (643 << 20, 3), (300 << 20, 0)])
def test_the_nearest_setting_that_fits_has_fewer_rows_and_takes_less_than_is_free(free: int, rows: int):
    assert NEEDS.fitting(free) == rows
    assert rows == 0 or planned(rows).total - NEEDS.there <= free
    assert (f"--micro-batch {rows}" in NEEDS.remedy(free)) == (rows > 0)


def test_where_one_row_is_too_much_the_simplest_other_setting_that_fits_is_named():
    needs = replace(NEEDS, micro_batch=1, instead={f"--layout shard={ranks}": partial(planned, 1, ranks) for ranks in (2, 4)})
    assert "--layout shard=2 takes 250 MiB" in needs.remedy(220 << 20)
    assert "--layout shard=4" in needs.remedy(100 << 20)
    assert "shorten max_seq_len" in needs.remedy(10 << 20)


@pytest.mark.parametrize("error", [
    MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."),
])  # fmt: skip
def test_every_way_of_running_out_is_recognised(error: Exception):
    with pytest.raises(ResourceError, match="memory of cpu is used up"), memory_told(NEEDS, "cpu"):
        raise error


def test_other_errors_pass_as_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_told(NEEDS, "cpu"):
        raise RuntimeError("shapes do not match")


def test_what_was_asked_for_is_read_off_the_message():
    assert asked_bytes("you tried to allocate 4096 bytes. Error code 12") == 4096
    assert asked_bytes("Tried to allocate 2.50 GiB. GPU 0") == round(2.5 * 2**30)
    assert asked_bytes("Unable to allocate 1.00 MiB for an array") == 1 << 20
    assert asked_bytes("no") == 0


def test_what_is_there_already_is_counted():
    state = fresh(ema=0.9)
    weights = 4 * sum(p.numel() for p in state.model.parameters())
    assert bytes_there(state) == 2 * weights
    next(train(state, Uneven(), course(), Manner(micro_batch=2)))
    assert bytes_there(state) == pytest.approx(4 * weights, rel=0.01)


def test_there_is_something_free_and_no_more_than_the_limit():
    assert free_bytes("cpu") > 0
