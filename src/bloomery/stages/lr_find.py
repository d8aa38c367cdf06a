"""A sweep of learning rates over a training's own data, model, optimiser and batch; nothing of it is kept."""

from __future__ import annotations

from bloomery.core.errors import ConfigError
from bloomery.stages.micro_batch import rows_at_a_time
from bloomery.stages.planner import here
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.start import manner_of, start
from bloomery.stages.train import Train
from bloomery.text.tokenizer import Tokenizer
from bloomery.train import Course, StepReport
from bloomery.train.lr_find import RateSweep, sweep_rates
from bloomery.train.machine import row_meter


def find_rate(stage: Train, context: RunContext, low: float, high: float, steps: int) -> RateSweep:
    """Sweeps the `learning_rate` of a training's optimiser, from the weights that the training begins with.

    Args:
        stage: the training; what it reads is made if it is missing, and nothing else.
        context: where and how.
        low: the lowest rate.
        high: the highest rate.
        steps: how many rates are tried.

    Raises:
        ConfigError: low is not below high, the training learns from what it writes itself, or the layout does not go with it.
    """
    if not low < high:
        raise ConfigError(f"--low {low:g} is not below --high {high:g}; {high / 1e4:g} would be")
    if stage.rollout is not None:
        raise ConfigError(f"{stage.reference} learns from what it writes and is paid for, in which no loss says how well a rate does; compare "
                          "runs at several rates by their reward")  # fmt: skip
    inputs = Inputs({one.reference: one.run(context) for one in stage.inputs().values()})
    source = stage.posed(stage.source(inputs), Tokenizer.load(inputs[stage.tokenizer].checked("tokenizer.json")))
    config, state = start(stage, context, inputs, stage.optimizer.at(high))
    course = Course(
        objective=stage.objective, schedule=stage.schedule, steps=steps, rows=stage.rows, batch_rule=stage.batch_rule,
        clip_norm=stage.clip_norm, precision=stage.precision, seed=stage.seed,
    )
    measure = row_meter(state, source, stage.objective, stage.precision, context.device)
    rows = rows_at_a_time(stage, context, config, lambda: here(context.device, stage.precision), measure)
    manner = manner_of(context, state, rows, measure, flops=0.0)  # too few steps to repay being compiled

    def each(report: StepReport) -> None:
        context.progress(f"{stage.reference}: rate {report.learning_rate:.3g}, loss {report.loss:.3f}")

    return sweep_rates(state, source, course, manner, low, high, each)
