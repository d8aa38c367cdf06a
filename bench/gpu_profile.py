"""Where a training step's time goes on a GPU: the kernels of our step at a shape of `bench/train_gpu.py`, by their time.

    python bench/gpu_profile.py 124m 32        # the shape, and rows in a micro-batch
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
import train_gpu
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

TAKEN, STEPS, SHOWN = 4, 7, 28  # the step that is looked into, of so many; kernels in the table


class Watch:
    """Notes when steps end, and looks into one."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.profile: Any = profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU])

    def step_done(self) -> None:
        torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        if len(self.ends) == TAKEN - 1:
            self.profile.__enter__()
        if len(self.ends) == TAKEN:
            self.profile.__exit__(None, None, None)


def main(name: str, micro_batch: int) -> None:
    watch, shape = Watch(), train_gpu.SHAPES[name]
    train_gpu.ours(train_gpu.Turn(contender=train_gpu.OURS, shape=name, micro_batch=micro_batch, steps=STEPS, warm_up=0), watch)  # type: ignore[arg-type]
    seconds = watch.ends[-1] - watch.ends[-2]
    speed = shape.rows * shape.time / seconds
    peak = train_gpu.dense_bf16_rate(torch.cuda.get_device_name())
    share = "" if peak is None else f", {speed * shape.config.flops_per_token(shape.time) / peak:.1%} of the card's rate"
    print(f"{seconds:.3f} s for the last step: {speed:.0f} tokens/s{share}; {torch.cuda.max_memory_allocated() / 1e9:.1f} GB at most")
    kernels = [event for event in watch.profile.key_averages() if event.device_type == DeviceType.CUDA and event.self_device_time_total]
    total = sum(kernel.self_device_time_total for kernel in kernels)
    print(f"{total / 1e3:.1f} ms of kernels in step {TAKEN}")
    for kernel in sorted(kernels, key=lambda kernel: -kernel.self_device_time_total)[:SHOWN]:
        took = kernel.self_device_time_total
        print(f"{took / 1e3:9.2f} ms {took / total:6.1%} {kernel.count:6} × {kernel.key[:100]}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
