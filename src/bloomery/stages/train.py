"""`Train`: from token shards to a model. Pre-training and instruction tuning are this one stage, with other values.

    model/           config.json, model.safetensors
    tokenizer/       tokenizer.json, as the tokenizer's stage left it
    metrics.jsonl    one line per step, and one per measurement
    samples.jsonl    answers to the watched prompts
    healing.json, .md, .html   what was done about bad steps, where there were any
    tensorboard/     the same figures as scalars, unless other trackers are asked for
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Lt

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError, StoppedError
from bloomery.core.units import Steps, Tokens, human_bytes, human_count, human_seconds
from bloomery.data import (
    Corpus,
    Cut,
    Given,
    Mixing,
    Mixture,
    NextToken,
    Packing,
    Posed,
    RowTask,
    Source,
    TokenShards,
    Vocabulary,
)
from bloomery.mesh import Layout, Lookout
from bloomery.models import ModelConfig, write_held_model
from bloomery.objectives import CausalLM, Objective
from bloomery.optim import AdamW, Average, Batches, BatchRamp, BatchRule, NoRamp, OptimizerConfig, Schedule, WarmupCosine
from bloomery.planning.memory import Memory, memory
from bloomery.stages.anatomy import anatomy_of
from bloomery.stages.healed import in_summary, write_healing
from bloomery.stages.init import Continue, Init
from bloomery.stages.rows import contributions, mixed_of, packed_of
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.task import check_task
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import LoadTokenizer, TrainTokenizer
from bloomery.stages.trained import Trained
from bloomery.stages.watch import Watch
from bloomery.store import Store, Workspace, read_json, write_bytes, write_json
from bloomery.text.tokenizer import Tokenizer
from bloomery.train import Checkpoints, Course, Healing, Keep, Manner, Precision, StepReport, TrainState, train
from bloomery.train.loop import At
from bloomery.train.machine import MICRO_BATCHES_PER_STAGE, choose_micro_batch, compile_pays, matmul_rate, over_ranks, row_meter
from bloomery.train.memory import Needs, bytes_there, memory_told
from bloomery.train.recompute import Recompute, recompute
from bloomery.train.records import Lines, NoLines, Progress
from bloomery.train.snapshots import OnDisk
from bloomery.train.spreading import check_course, spread_model
from bloomery.train.statistics import Inspector
from bloomery.train.trackers import TRACKERS, Session, Trackers
from bloomery.train.watch import answers, held_out
from bloomery.train.wishes import Notice, Wish

SUMMARY = "summary.json"  # in a workspace: the training is done, and the model is written
USUAL_UTILISATION = 0.5  # of the matrix rate, for the estimate before the first step


class Share(Config):
    """A corpus's share of what is trained on."""

    tokens: Tokenize
    """The corpus; its stage's name stands for it in reports."""
    proportion: Annotated[float, Gt(0)] = 1.0
    """Of the rows, relative to the other shares."""
    group: str = ""
    """The group that it belongs to, for `Ratio`."""
    max_epochs: Annotated[float, Gt(0)] | None = None
    """How often the corpus may be passed over; what it cannot give, the others do. None is any number of times."""


class Train(Trained):
    """Trains a model on packed rows.

    Example:
        >>> base = Train(tokenizer=tokenizer, init=Scratch(model=LlamaConfig(vocab_size=2048, d_model=192, n_layers=4, n_heads=6)),
        ...              sources=(Share(tokens=stories),), max_seq_len=256, batch_tokens=4096, steps=600)
        >>> chat = Train(name="chat", tokenizer=tokenizer, init=Continue(base=base), sources=(Share(tokens=talks),),
        ...              packing=Fit(), max_seq_len=256, batch_tokens=4096, steps=200)
    """

    takes_all_ranks: ClassVar[bool] = True

    tokenizer: TrainTokenizer | LoadTokenizer
    """The tokenizer of all corpora; a copy goes with the model."""
    init: Init
    """`Scratch(model=…)`, `Continue(base=…)` or `Hub(path=…)`."""
    sources: tuple[Share, ...]
    """What to train on."""
    mixing: Mixing = Given()
    """How much of which: `Given()` (the shares' proportions), `Temperature()`, `UniMax()`, `Ratio()` or `Curriculum()`."""
    packing: Packing = Cut()
    """How documents become rows: `Cut()` or `Fit()`."""
    task: RowTask = NextToken()
    """What is to be learnt from rows: `NextToken()`, `PrefixLM()`, `MaskedTokens()`, `SpanCorruption()` or `SentenceOrder()`."""
    objective: Objective = CausalLM()
    """The loss."""
    optimizer: OptimizerConfig = AdamW()
    """How gradients become updates."""
    schedule: Schedule = WarmupCosine()
    """The course of the learning rate."""
    max_seq_len: Tokens
    """Tokens in a row."""
    batch_tokens: Tokens
    """Tokens in a step, padding included; a multiple of max_seq_len."""
    ramp: BatchRamp = NoRamp()
    """How the batch comes to be that large: `NoRamp()`, `Doublings(at=…)` or `Rising(tokens=…)`."""
    batch_rule: BatchRule | None = None
    """How learning rates follow the tokens in a step; None leaves them as they are given."""
    steps: Steps | None = None
    """Optimiser steps. Give these or `tokens`."""
    tokens: Tokens | None = None
    """Tokens to train on, rounded up to whole steps. Give these or `steps`."""
    clip_norm: Annotated[float, Gt(0)] | None = 1.0
    """Largest global norm of the gradient; None clips nothing."""
    precision: Precision = "fp32"
    """Of matrix products. bf16 and fp16 pay where there are units for them, which few CPUs have."""
    healing: Healing | None = Healing()
    """What is done about steps that would harm the model; None stops at the first that is not finite, and lets all others pass."""
    ema: Annotated[float, Ge(0), Lt(1)] | None = None
    """Decay of a moving average of the weights, which is then what is measured and kept; None keeps the last weights."""
    seed: int = 0
    """Of initial weights and of the order of documents."""
    watch: Watch = Watch()
    """What is measured along the way."""

    def check(self) -> None:
        if not self.sources:
            raise self.refuse("sources", "names nothing to train on; give one Share at least")
        if (self.steps is None) == (self.tokens is None):
            raise ConfigError(f"Train.steps={self.steps} and Train.tokens={self.tokens}: give one of them, and leave out the other")
        if self.batch_tokens % self.max_seq_len:
            below = self.batch_tokens // self.max_seq_len * self.max_seq_len
            near = " or ".join(str(n) for n in (below, below + self.max_seq_len) if n)
            raise self.refuse("batch_tokens", f"is not a multiple of max_seq_len={self.max_seq_len}; {near} would be")
        self.ramp.levels(self.rows, self.max_seq_len)
        names = [share.tokens.name for share in self.sources]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"Train.sources has two corpora named {min(twice)!r}; give their Tokenize stages names of their own")
        corpora = {f"sources[{i}].tokens": share.tokens for i, share in enumerate(self.sources)}
        corpora |= {f"watch.held_out[{i}]": tokens for i, tokens in enumerate(self.watch.held_out)}
        for path, corpus in corpora.items():
            if corpus.tokenizer != self.tokenizer:
                raise ConfigError(f"Train.{path} is encoded with {corpus.tokenizer.reference}, not with Train.tokenizer="
                                  f"{self.tokenizer.reference}; use one tokenizer for all")  # fmt: skip
        if isinstance(self.init, Continue) and self.init.base.vocabulary != self.tokenizer:
            raise ConfigError(f"Train.init.base was trained with {self.init.base.vocabulary.reference}, not with Train.tokenizer="
                              f"{self.tokenizer.reference}; use its tokenizer")  # fmt: skip
        self.mixing.weights([Corpus(name=s.tokens.name, tokens=1, proportion=s.proportion, group=s.group) for s in self.sources])
        if (model := self.init.architecture) is not None:
            self._check_model(model)

    def _check_model(self, model: ModelConfig) -> None:
        if self.max_seq_len > model.max_seq_len:
            raise self.refuse("max_seq_len", f"is longer than the model's max_seq_len={model.max_seq_len}; {model.max_seq_len} is the most")
        check_task(self.task, model, self.tokenizer, self.max_seq_len)
        if self.watch.prompts and (model.reads_passage or not model.reads_forward):
            raise ConfigError(f"Train.watch.prompts are for models that go on with a text, which Train.init's {model.kind()} does not; leave "
                              "them out")  # fmt: skip
        self.objective.check_training(model, self.task)

    @property
    def architecture(self) -> ModelConfig | None:
        return self.init.architecture

    @property
    def vocabulary(self) -> TrainTokenizer | LoadTokenizer:
        return self.tokenizer

    @property
    def rows(self) -> int:
        """Rows per step, when the batch is full."""
        return self.batch_tokens // self.max_seq_len

    @property
    def batches(self) -> Batches:
        """How many rows each step reads."""
        return self.ramp.batches(self.rows, self.max_seq_len)

    @property
    def total_rows(self) -> int:
        """Rows that all steps read."""
        return self.batches.rows_before(self.total_steps)

    @property
    def total_steps(self) -> int:
        """Optimiser steps, also where tokens are given."""
        if self.tokens is not None:
            return self.batches.steps_for(-(-self.tokens // self.max_seq_len))
        assert self.steps is not None  # `check` wants one of them
        return self.steps

    def source(self, inputs: Inputs) -> Source:
        """The rows that this training reads, in its order. Every byte of the shards is checked."""
        return self._source({share.tokens.name: TokenShards.open(inputs[share.tokens]) for share in self.sources})

    def posed(self, source: Source, tokenizer: Tokenizer) -> Source:
        """The rows of `source` as the task has the model read them; the same ones for `NextToken()`."""
        if isinstance(self.task, NextToken):
            return source
        return Posed(source, self.task, time=self.max_seq_len, seed=self.seed, vocabulary=Vocabulary(tokenizer))

    def _source(self, shards: Mapping[str, TokenShards]) -> Source:
        packed = packed_of(shards, self.packing, self.task.raw_time(self.max_seq_len), self.seed)
        most = self.mixing.most_epochs()
        corpora = []
        for share in self.sources:
            source = packed[share.tokens.name]
            epochs = min((e for e in (most, share.max_epochs) if e is not None), default=None)
            corpora.append(Corpus(
                name=source.name, tokens=source.shards.tokens, proportion=share.proportion, group=share.group,
                most_rows=None if epochs is None else source.rows_within(epochs),
            ))  # fmt: skip
        return mixed_of(packed, self.mixing.phases(corpora, self.total_rows))

    def memory(self, config: ModelConfig, micro_batch: int, layout: Layout, again: Recompute) -> Memory:
        """What the rank that holds the most holds at the worst moment of a step.

        Args:
            config: of the model.
            micro_batch: rows per forward pass.
            layout: of the ranks.
            again: what is computed again; but for "full", it is planned as if nothing were.
        """
        anatomy = anatomy_of(
            config, rows=micro_batch, time=self.max_seq_len, objective=self.objective, optimizer=self.optimizer, task=self.task,
            precision=self.precision, averaged=self.ema is not None,
        )  # fmt: skip
        recomputed = len(anatomy.blocks) if again.kind == "full" else 0
        return max(memory(anatomy, layout, self.rows, recomputed), key=lambda of_rank: of_rank.total)

    def instead(self, config: ModelConfig, again: Recompute) -> dict[str, Callable[[], Memory]]:
        """Settings for a training of which one rank cannot hold a row → what they would take there, the simplest first."""
        full = {} if again.kind == "full" else {
            "--recompute full --micro-batch 1": partial(self.memory, config, 1, Layout(), Recompute("full"))
        }  # fmt: skip
        return full | {
            f"--layout shard={ranks} --micro-batch 1 on {ranks} ranks": partial(self.memory, config, 1, Layout(shard=ranks), again)
            for ranks in (2, 4, 8) if self.rows % ranks == 0
        }  # fmt: skip

    def preview(self, store: Store) -> list[str]:
        found = {share.tokens.name: store.find(share.tokens.reference) for share in self.sources}
        shards = {name: TokenShards(artifact.path) for name, artifact in found.items() if artifact is not None}
        rows = self.total_rows
        if len(shards) == len(found):
            return contributions(self._source(shards), rows)
        known = {name: f"{human_count(one.tokens)} tokens an epoch" for name, one in shards.items()}
        total = human_count(rows * self.max_seq_len)
        return [f"{name}: {known.get(name, 'unknown until tokenized')}; its share of {total} tokens is known when all are" for name in found]

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        if context.mesh.world.tell("written" if (workspace.path / SUMMARY).exists() else "", 0):
            return self._finish(workspace, context)
        run = _Run(self, context, inputs, workspace)
        with memory_told(run.needs(), context.device):
            return run.to_end()

    def _finish(self, workspace: Workspace, context: RunContext) -> dict[str, Any]:
        """Deletes what only an unfinished run needs; the figures of the run, on the leading rank."""
        if not context.mesh.leads:
            return {}
        summary = read_json(workspace.path / SUMMARY)
        Keep(last=0, every=context.keep_every).apply(workspace.path / "checkpoints")
        shutil.rmtree(workspace.path / "snapshots", ignore_errors=True)
        return summary


class _Run:
    """One session of a training, in its workspace."""

    def __init__(self, stage: Train, context: RunContext, inputs: Inputs, workspace: Workspace) -> None:
        self.stage, self.context, self.workspace, self.folder = stage, context, workspace, workspace.path
        tokenizer = inputs[stage.tokenizer].checked("tokenizer.json")
        if context.mesh.leads:
            write_bytes(self.folder / "tokenizer" / "tokenizer.json", tokenizer.read_bytes())
        self.tokenizer = Tokenizer.load(tokenizer)
        self.raw = stage.source(inputs)
        self.source = stage.posed(self.raw, self.tokenizer)
        self.held_out = {tokens.name: TokenShards.open(inputs[tokens]) for tokens in stage.watch.held_out}
        self.config, fill = stage.init.load(inputs, stage.seed)
        stage._check_model(self.config)
        check_course(context.mesh.layout, stage.rows, stage.max_seq_len, stage.objective)
        spread = spread_model(self.config, context.mesh, fill)
        live = {name: held.local for name, held in spread.holding.parameters.items()}
        average = Average(live, stage.ema) if stage.ema is not None else None
        self.state = TrainState(spread.model, stage.optimizer.of(spread.members), average, holding=spread.holding)
        self.flops_per_token = self.config.flops_per_token(stage.max_seq_len)
        self.manner = self._manner()
        self.rate = matmul_rate(context.device) * context.mesh.layout.world
        self.course = Course(
            objective=stage.objective, schedule=stage.schedule, steps=stage.total_steps, rows=stage.rows, ramp=stage.ramp,
            batch_rule=stage.batch_rule, clip_norm=stage.clip_norm, precision=stage.precision, seed=stage.seed,
            healing=stage.healing,
        )
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints", context.mesh, Keep(every=context.keep_every), self.course.facts,
            lambda line: context.say(f"{stage.reference}: {line}"),
        )  # fmt: skip
        resumed = self.checkpoints.resume(self.state)
        self.metrics, self.samples = (
            Lines(self.folder / name, self.state.step if resumed else None) if context.mesh.leads else NoLines()
            for name in ("metrics.jsonl", "samples.jsonl")
        )
        session = Session(run=stage.reference, folder=self.folder, step=self.state.step if resumed else None, settings=stage.settings())
        chosen = (TRACKERS[name] for name in context.trackers if context.mesh.leads)
        self.trackers = Trackers(chosen, session, lambda line: context.say(f"{stage.reference}: {line}"))
        self.resumed = resumed
        self.saved, self.notice = time.monotonic(), Notice()
        self.measured: dict[str, float] = {}

    def to_end(self) -> dict[str, Any]:
        """Trains what is left, writes the model, and returns the summary."""
        stage, context, state, course, checkpoints = self.stage, self.context, self.state, self.course, self.checkpoints
        for line in self.forecast():
            context.say(f"{stage.reference}: {line}")
        if not self.resumed:
            self.measure()
        progress = Progress(course.steps, lambda line: context.progress(f"{stage.reference}: {line}"), context.quiet)
        seconds, began = 0.0, state.step
        try:
            with Lookout(context.mesh) as lookout, self.notice:
                for report in self.steps(course, lookout.at):
                    seconds += report.seconds
                    self.record(report, progress)
                    last = report.step == course.steps
                    if last or (stage.watch.every and report.step % stage.watch.every == 0):
                        self.measure()
                    if last or checkpoints.keep.permanent(report.step) or any(report.wish):
                        checkpoints.save(state)
                        self.saved = time.monotonic()
                    if report.wish.leave and not last:
                        checkpoints.settle()
                        raise StoppedError(f"{stage.reference}: asked to end, saved at step {state.step}; the same command goes on")
                checkpoints.settle()
        finally:
            checkpoints.close()
            for record in (progress, self.metrics, self.samples, self.trackers):
                record.close()
            if state.known.events and context.mesh.leads:
                write_healing(self.folder, stage.reference, state.known, self.raw, self.tokenizer)
        tokens = (stage.batches.rows_before(state.step) - stage.batches.rows_before(began)) * stage.max_seq_len
        speed = tokens / seconds if seconds else 0.0
        return self.write_model({"seconds": round(seconds, 3), "tokens_per_s": round(speed, 1)})

    def wish(self) -> Wish:
        """What this rank asks for: a checkpoint, after a while; or to leave, when it has been told to."""
        return Wish(save=time.monotonic() - self.saved >= self.context.checkpoint_every_s, leave=self.notice.given)

    def steps(self, course: Course, at: At) -> Iterator[StepReport]:
        """The steps, looked into where statistics are asked for."""
        snapshots = OnDisk(self.folder / "snapshots", self.checkpoints.folder, self.context.mesh) if self.stage.healing is not None else None
        reports = train(self.state, self.source, course, self.manner, self.wish, at, snapshots)
        if (statistics := self.stage.watch.statistics) is None:
            return reports
        inspector = Inspector(statistics, self.state, self.source, course, self.manner)
        return inspector.over(reports, self.write, lambda line: self.context.say(f"{self.stage.reference}: {line}"))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures into the lines and to the trackers."""
        self.metrics.write(step, **figures)
        self.trackers.write(step, figures)

    def write_model(self, session: dict[str, float]) -> dict[str, Any]:
        """The artifact's files, and the mark that says that they are all there."""
        state, stage = self.state, self.stage
        write_held_model(self.folder / "model", self.config, state.holding, None if state.average is None else state.average.values)
        if not self.context.mesh.leads:
            return {}
        tokens = stage.batches.rows_before(state.step) * stage.max_seq_len
        summary: dict[str, Any] = {
            "parameters": self.config.n_params, "steps": state.step, "tokens": tokens, "flops": tokens * self.flops_per_token,
            **self.last_figures(), **session,
            **({"mixture": self.raw.plain()} if isinstance(self.raw, Mixture) else {}), **in_summary(state.known),
        }
        write_json(self.folder / SUMMARY, summary)
        return stage._finish(self.workspace, self.context)

    def last_figures(self) -> dict[str, float]:
        """The last loss and the last measurements, as the metrics have them."""
        figures: dict[str, float] = {}
        for line in (self.folder / "metrics.jsonl").read_text().splitlines():
            found = json.loads(line)
            figures |= {name: value for name, value in found.items() if name == "loss" or name.startswith("held_out/")}
        return figures

    def record(self, report: StepReport, progress: Progress) -> None:
        """Metrics and progress of a step."""
        utilisation = report.tokens_per_s * self.flops_per_token / self.rate
        figures = {
            "loss": report.loss, "grad_norm": report.grad_norm, "learning_rate": report.learning_rate,
            "tokens_per_s": round(report.tokens_per_s, 1), "utilisation": round(utilisation, 4), **report.metrics,
        }
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        healed = {"healing": [event.plain() for event in report.events]} if report.events else {}
        for event in report.events:
            self.context.say(f"{self.stage.reference}: {event}")
        self.metrics.write(report.step, tokens=report.tokens, learnt=report.learnt, **figures, **healed)
        self.trackers.write(report.step, figures)
        progress.show(report, utilisation)

    def measure(self) -> None:
        """What `Watch` asks for, with the averaged weights where an average is kept."""
        if self.state.average is None:
            self._measure()
        else:
            with self.state.average.in_place():
                self._measure()

    def _measure(self) -> None:
        stage, watch, model, step = self.stage, self.stage.watch, self.state.model, self.state.step
        figures: dict[str, float] = {}
        for name, shards in self.held_out.items():
            found = held_out(
                model, shards, self.tokenizer, time=stage.max_seq_len, tokens=watch.tokens, rows=self.manner.micro_batch,
                device=self.context.device, task=stage.task, objective=stage.objective, holding=self.state.holding,
            )
            figures |= {f"held_out/{name}/{what}": value for what, value in found.items()}
        if figures:
            self.write(step, figures)
            what, words = ("bits_per_byte", "bits per byte") if stage.task.every_token else ("loss", "loss")
            told = "  ".join(f"{name} {figures[f'held_out/{name}/{what}']:.3f}" for name in self.held_out)
            self.context.say(f"{stage.reference}: step {step}: {words} of held-out text: {told}")
        if not self.context.mesh.alone:  # writing needs the whole model; `chat` has it when it is done
            return
        texts = answers(model, watch.prompts, self.tokenizer, watch.template, watch.sampler, watch.max_new_tokens)
        for prompt, text in zip(watch.prompts, texts, strict=True):
            self.samples.write(step, prompt=prompt, answer=text)
            self.context.say(f"{stage.reference}: step {step}: {prompt!r} → {text!r}")

    def forecast(self) -> list[str]:
        """What the run will take, told before it begins."""
        stage, manner, left = self.stage, self.manner, self.stage.total_steps - self.state.step
        tokens = (stage.total_rows - stage.batches.rows_before(self.state.step)) * stage.max_seq_len
        flops = tokens * self.flops_per_token
        copies = 4 + (self.state.average is not None) + (stage.healing is not None)  # weights, gradients, two moments, what to take back to
        memory = self.config.n_params * 4 * copies + self.activation_bytes * manner.micro_batch
        return [
            f"{human_count(self.config.n_params)} parameters, {left} steps of {'at most ' if stage.batches.levels else ''}"
            f"{human_count(stage.batch_tokens)} tokens: "
            f"{human_count(tokens)} tokens, {human_count(flops)}FLOP; about "
            f"{human_seconds(flops / (self.rate * USUAL_UTILISATION))} at half of the measured {human_count(self.rate)}FLOP/s; about "
            f"{human_bytes(memory)} beyond the program; {manner.micro_batch} of {stage.rows} rows at a time, "
            f"{'compiled' if manner.compiled else 'eager'}",
            *self.source.describe(stage.total_rows),
        ]

    def needs(self) -> Needs:
        """What steps hold in memory, and what less they could."""
        stage, context = self.stage, self.context
        return Needs(
            plan=lambda rows: stage.memory(self.config, rows, context.mesh.layout, context.recompute), there=bytes_there(self.state),
            micro_batch=self.manner.micro_batch, instead=stage.instead(self.config, context.recompute) if context.mesh.alone else {},
        )  # fmt: skip

    def _manner(self) -> Manner:
        stage, context, mesh = self.stage, self.context, self.context.mesh
        rows = stage.rows // mesh.readers.size
        if mesh.layout.pipeline > 1:  # enough micro-batches that waiting at its ends counts little
            chosen = max(1, rows // (MICRO_BATCHES_PER_STAGE * mesh.layout.pipeline))
            measure, self.activation_bytes = None, 0
        else:
            measure = row_meter(self.state, self.source, stage.objective, stage.precision, context.device)
            self.activation_bytes = over_ranks(mesh, measure())
            chosen = choose_micro_batch(rows, self.activation_bytes)
        micro_batch = min(context.micro_batch or chosen, rows)
        recompute(self.state.model, context.recompute, None if measure is None else lambda: micro_batch * measure())
        if measure is not None and context.recompute.kind != "none":
            self.activation_bytes = measure()
        planned = stage.total_rows * stage.max_seq_len * self.flops_per_token
        compiled = {"auto": compile_pays(planned, context.device), "always": True, "never": False}[context.compile]
        return Manner(micro_batch=micro_batch, compiled=compiled, device=context.device)
