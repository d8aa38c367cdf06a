"""Carries a pipeline's schedule out: receives what the stage before has made, hands on, and the way back for gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.mesh.mesh import Mesh
from bloomery.mesh.schedules import Action, schedule

Forward = Callable[[int, int, Tensor | None], Tensor]
"""(stage, micro-batch, what the stage before made) → what this one makes; the loss, at the last one."""


class Pipeline:
    """The stages of one pipeline that this rank holds.

    Args:
        mesh: the ranks.
        layers: of the whole model.
    """

    def __init__(self, mesh: Mesh, layers: int) -> None:
        self.layout, self.axis = mesh.layout, mesh.axis("pipeline")
        self.n_stages = self.axis.size * self.layout.stages
        self.spans = [range(layers * i // self.n_stages, layers * (i + 1) // self.n_stages) for i in range(self.n_stages)]

    @property
    def own(self) -> list[range]:
        """The layers of each stage of this rank."""
        return self.spans[self.axis.index :: self.axis.size]

    def actions(self, micro_batches: int) -> list[Action]:
        """What this rank does in a step.

        Raises:
            ConfigError: the interleaved schedule cannot deal so many micro-batches evenly.
        """
        if self.layout.schedule == "interleaved" and micro_batches % self.axis.size:
            near = micro_batches // self.axis.size * self.axis.size or self.axis.size
            raise ConfigError(f"--layout {self.layout}: {micro_batches} micro-batches in a step are no multiple of pipeline={self.axis.size}, "
                              f"which the interleaved schedule needs; {near} would be: change --micro-batch or batch_tokens")  # fmt: skip
        return schedule(self.layout.schedule, self.axis.index, self.axis.size, self.layout.stages, micro_batches)

    def _looks(self, micro_batches: int) -> list[Action]:
        stages = range(self.axis.index, self.n_stages, self.axis.size)
        return [Action("forward", stage, micro) for micro in range(micro_batches) for stage in stages]

    def run(self, forward: Forward, micro_batches: int, like: Sequence[Tensor], learn: bool = True) -> None:
        """Does all passes of a step, forward and backward.

        Args:
            forward: one stage of one micro-batch.
            micro_batches: of the step.
            like: for each micro-batch a tensor of the shape and type of what stages hand on.
            learn: whether there are backward passes.
        """
        entered: dict[tuple[int, int], Tensor] = {}
        left: dict[tuple[int, int], Tensor] = {}
        sending: list[tuple[dist.Work | None, Tensor]] = []
        last = self.n_stages - 1
        for what, stage, micro in self.actions(micro_batches) if learn else self._looks(micro_batches):
            key = stage, micro
            if what == "forward":
                x = None if stage == 0 else self._receive(stage - 1, stage, micro, like[micro]).requires_grad_(learn)
                y = forward(stage, micro, x)
                if x is not None:
                    entered[key] = x
                if learn:
                    left[key] = y
                if stage < last:
                    sending.append(self._send(stage, stage + 1, micro, y.detach()))
            else:
                y = left.pop(key)
                torch.autograd.backward(y, None if stage == last else self._receive(stage + 1, stage, micro, y))
                if stage > 0:
                    gradient = entered.pop(key).grad
                    assert gradient is not None
                    sending.append(self._send(stage, stage - 1, micro, gradient))
        for work, _ in sending:
            if work is not None:
                work.wait()

    def _send(self, source: int, target: int, micro: int, x: Tensor) -> tuple[dist.Work | None, Tensor]:
        x = x.contiguous()
        return dist.isend(x, self._rank(target), group=self.axis.group, tag=self._tag(source, target, micro)), x  # x lives until it has arrived

    def _receive(self, source: int, target: int, micro: int, like: Tensor) -> Tensor:
        out = torch.empty_like(like, requires_grad=False, memory_format=torch.contiguous_format)
        dist.recv(out, self._rank(source), group=self.axis.group, tag=self._tag(source, target, micro))
        return out

    def _rank(self, stage: int) -> int:
        return self.axis.ranks[stage % self.axis.size]

    def _tag(self, source: int, target: int, micro: int) -> int:
        return 2 * (micro * self.n_stages + min(source, target)) + (source > target)
