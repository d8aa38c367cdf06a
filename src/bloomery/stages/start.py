"""A training as its first step finds it, for runs and for sweeps of rates: the state on this rank, and how steps are computed."""

from __future__ import annotations

from collections.abc import Callable

from bloomery.core.errors import ConfigError
from bloomery.models import ModelConfig
from bloomery.optim import Average, OptimizerConfig
from bloomery.stages.look_back import beside_of
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.training import Training
from bloomery.train import Manner, TrainState
from bloomery.train.machine import compile_pays
from bloomery.train.offload import Away, AwayOptimizer, offload_activations
from bloomery.train.recompute import recompute
from bloomery.train.spreading import check_course, spread_model


def start(stage: Training, context: RunContext, inputs: Inputs, optimizer: OptimizerConfig) -> tuple[ModelConfig, TrainState]:
    """The model of a training, and its state before the first step.

    Args:
        stage: the training.
        context: where and how.
        inputs: the artifacts that it reads.
        optimizer: that takes its steps.

    Raises:
        ConfigError: the layout does not go with the training.
    """
    config, fill = stage.load(inputs)
    check_course(context.mesh.layout, stage.rows, stage.max_seq_len, stage.objective, stage.rollout is not None)
    spread = spread_model(config, context.mesh, fill, stage.trainable)
    live = {held.name: held.local for held in spread.holding.trainable()}
    average = Average(live, stage.ema) if stage.ema is not None else None
    beside = beside_of(stage.objective, inputs, spread.model, spread.holding, config, stage.judges)
    updater = optimizer.of(spread.members)
    updater = AwayOptimizer(updater) if "optimizer" in context.offload else updater
    return config, TrainState(spread.model, updater, average, holding=spread.holding, beside=beside, fixed=config.fixed)


def manner_of(context: RunContext, state: TrainState, micro_batch: int, measure: Callable[[], int], flops: float) -> Manner:
    """How its steps are computed, as the context asks for; what is computed again, and what leaves, is arranged in the model.

    Args:
        context: where and how.
        state: of the training.
        micro_batch: rows per forward pass.
        measure: counts the bytes that this rank keeps of one row; all ranks ask.
        flops: operations of all steps, by which "auto" decides whether to compile them.

    Raises:
        ConfigError: two things are asked for that do not go together.
    """
    recompute(state.model, context.recompute, None if context.mesh.layout.pipeline > 1 else lambda: micro_batch * measure())
    compiled = {"auto": compile_pays(flops, context.device), "always": True, "never": False}[context.compile]
    if "activations" in context.offload:
        if context.compile == "always":
            raise ConfigError("--offload activations: a compiled step keeps its activations out of reach; take --compile never, "
                              "or --recompute")  # fmt: skip
        offload_activations(state.model, Away(context.device))
        compiled = False
    return Manner(micro_batch=micro_batch, compiled=compiled, device=context.device)
