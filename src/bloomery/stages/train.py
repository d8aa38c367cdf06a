"""`Train`: from token shards to a model. Pre-training and instruction tuning are this one stage, with other values.

    model/           config.json, model.safetensors
    tokenizer/       tokenizer.json, as the tokenizer's stage left it
    metrics.jsonl    one line per step, and one per measurement
    samples.jsonl    answers to the watched prompts
    watch.svg        the watched suites over the steps, where there are any
    healing.json, .md, .html   what was done about bad steps, where there were any
    tensorboard/     the same figures as scalars, unless other trackers are asked for
"""

from __future__ import annotations

from typing import Any, ClassVar

from bloomery.mesh import Lookout
from bloomery.stages.run import SUMMARY, Run, finish
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.training import Share, Training
from bloomery.stages.watch import Suite, Watch
from bloomery.store import Workspace
from bloomery.train.memory import memory_told

__all__ = ["Share", "Suite", "Train", "Watch"]  # what a recipe says a training with


class Train(Training):
    """Trains a model on packed rows.

    Example:
        >>> base = Train(tokenizer=tokenizer, init=Scratch(model=LlamaConfig(vocab_size=2048, d_model=192, n_layers=4, n_heads=6)),
        ...              sources=(Share(tokens=stories),), max_seq_len=256, batch_tokens=4096, steps=600)
        >>> chat = Train(name="chat", tokenizer=tokenizer, init=Continue(base=base), sources=(Share(tokens=talks),),
        ...              packing=Fit(), max_seq_len=256, batch_tokens=4096, steps=200)
    """

    takes_all_ranks: ClassVar[bool] = True

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        if context.mesh.world.tell("written" if (workspace.path / SUMMARY).exists() else "", 0):
            return finish(workspace, context)
        with Lookout(context.mesh) as lookout:
            run = Run(self, context, inputs, workspace, lookout.at)
            with memory_told(run.needs(), context.device):
                return run.to_end()
