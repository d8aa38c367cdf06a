"""`Run`: one session of a training in its workspace, from the weights or the checkpoint that it finds to the model that it leaves."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cached_property
from math import prod
from typing import Any

import torch
from rich.text import Text

from bloomery.core.errors import StoppedError
from bloomery.core.units import human_bytes, human_count, human_seconds
from bloomery.data import Mixture, TokenShards
from bloomery.models import AdaptedConfig, Model, read_model
from bloomery.optim import Everything
from bloomery.planning.outlook import Outlook
from bloomery.stages.example import example_of
from bloomery.stages.forecast import compare
from bloomery.stages.healed import in_summary, write_healing
from bloomery.stages.leave import leave_model
from bloomery.stages.micro_batch import BEGUN, as_begun, rows_at_a_time
from bloomery.stages.operations import flops_per_token
from bloomery.stages.planner import COMPILED, UTILISATION, here, outlook_of
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.start import manner_of, start
from bloomery.stages.training import Training
from bloomery.stages.watched import BEST, Watched
from bloomery.store import Workspace, read_json, write_bytes, write_json
from bloomery.store.store import STOP
from bloomery.text.tokenizer import Tokenizer
from bloomery.train import Checkpoints, Course, Keep, Manner, StepReport, train
from bloomery.train.checkpoints.carried import carry_slots, leave_slots
from bloomery.train.checkpoints.folder import found, step_of
from bloomery.train.doctor.patient import packed_in
from bloomery.train.engines import Reach
from bloomery.train.loop import At
from bloomery.train.machine import row_meter
from bloomery.train.memory import Needs, bytes_by_kind, bytes_there
from bloomery.train.peak import Peak
from bloomery.train.records import Lines, NoLines, Progress
from bloomery.train.rewards import Proxies
from bloomery.train.rollouts import Rollout, Rollouts
from bloomery.train.snapshots import OnDisk
from bloomery.train.statistics import Inspector
from bloomery.train.trackers import TRACKERS, Session, Trackers
from bloomery.train.watch import answers, held_out
from bloomery.train.wishes import Notice, Wish

SLOTS = "optimizer"  # in an artifact: the optimiser's state, where it is kept
ROLLOUTS = "rollouts"  # in a workspace: rounds of rows that are kept while they are learnt from
ENGINE = "engine"  # in a workspace: weights on their way to servers that write
LOOKED_AT = 2048  # rows that are looked through for such as have nothing to be learnt
PLAN = "plan.json"  # in a workspace: what was planned beside what it takes so far, for who looks on
PLAN_EVERY_S = 2.0
SUMMARY = "summary.json"  # in a workspace: the training is done, and the model is written


def finish(workspace: Workspace, context: RunContext) -> dict[str, Any]:
    """Deletes what only an unfinished run needs; the figures of the run, on the leading rank."""
    if not context.mesh.leads:
        return {}
    summary = read_json(workspace.path / SUMMARY)
    Keep(last=0, every=context.keep_every).apply(workspace.path / "checkpoints")
    for folder in ("snapshots", ROLLOUTS, ENGINE, BEST):
        shutil.rmtree(workspace.path / folder, ignore_errors=True)
    for name in (BEGUN, PLAN):
        (workspace.path / name).unlink(missing_ok=True)
    return summary


class Run:
    """One session of a training, in its workspace.

    Args:
        stage: what it does.
        context: where and how.
        inputs: the artifacts that it reads.
        workspace: that it fills.
        at: told what is being done.
    """

    def __init__(self, stage: Training, context: RunContext, inputs: Inputs, workspace: Workspace, at: At) -> None:
        self.stage, self.context, self.workspace, self.folder, self.at = stage, context, workspace, workspace.path, at
        self.notice = Notice(context.store.path(stage.reference + STOP) if context.mesh.leads else None)
        tokenizer = inputs[stage.tokenizer].checked("tokenizer.json")
        if context.mesh.leads:
            write_bytes(self.folder / "tokenizer" / "tokenizer.json", tokenizer.read_bytes())
        self.tokenizer = Tokenizer.load(tokenizer)
        self.raw = stage.source(inputs)
        self.source = stage.posed(self.raw, self.tokenizer)
        self.held_out = {tokens.name: TokenShards.open(inputs[tokens]) for tokens in stage.watch.held_out}
        self.config, self.state = start(stage, context, inputs, stage.updater)
        trained = self.state.holding.trainable()
        if stage.rollout is not None:
            self.source = self.written(stage.rollout)
        frozen = not isinstance(stage.trainable, Everything)
        self.trained = sum(prod(held.part.shape) for held in trained) if frozen else self.config.n_params
        self.machine = here(context.device, stage.precision)
        self.plan = stage.planned(self.config, context.offload, self.machine.device)
        self.flops_per_token = self._flops_per_token()
        self.manner = self._manner()
        self.rate = self.machine.flops(stage.precision) * context.mesh.layout.world
        self.course = Course(
            objective=stage.objective, schedule=stage.schedule, steps=stage.total_steps, rows=stage.rows, ramp=stage.ramp,
            batch_rule=stage.batch_rule, clip_norm=stage.clip_norm, precision=stage.precision, seed=stage.seed,
            healing=stage.healing,
        )
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints", context.mesh, Keep(every=context.keep_every), self.course.facts,
            self.say,
        )  # fmt: skip
        resumed = self.checkpoints.resume(self.state)
        if not resumed and (before := stage.init.carried) is not None:
            carried = carry_slots(inputs[before].path / SLOTS, self.state)
            self.say(f"{carried} of {len(trained)} parameters go on with the optimiser's state of {before.reference}")
        self.metrics, self.samples = (
            Lines(self.folder / name, self.state.step if resumed else None) if context.mesh.leads else NoLines()
            for name in ("metrics.jsonl", "samples.jsonl")
        )
        session = Session(run=stage.reference, folder=self.folder, step=self.state.step if resumed else None, settings=stage.settings())
        chosen = (TRACKERS[name] for name in context.trackers if context.mesh.leads)
        self.trackers = Trackers(chosen, session, self.say)
        self.resumed = resumed
        self.proxies = self.rewards_watched()
        self.saved, self.planned_at = time.monotonic(), -math.inf
        self.watched = Watched(stage, inputs, self.folder, context.mesh)
        if resumed:
            self.watched.go_on(self.state.step)

    def written(self, rollout: Rollout) -> Rollouts:
        """The rows that the policy writes itself, to the prompts of the source."""
        return Rollouts(
            self.source, rollout, self.state, self.stage.batches, ends=self.tokenizer.end, pad=self.tokenizer.pad,
            vocab_size=self.tokenizer.vocab_size, seed=self.stage.seed, folder=self.folder / ROLLOUTS,
            prompts=-(-self.stage.total_rows // (rollout.epochs * rollout.samples)), tokenizer=self.tokenizer,
            reach=Reach(self.folder / ENGINE, self.context.engines, self.context.access, self.say),
        )  # fmt: skip

    def rewards_watched(self) -> Proxies:
        """Those of the training, as far as it has come."""
        rollout, metrics = self.stage.rollout, self.folder / "metrics.jsonl" if self.resumed else None
        if rollout is None or rollout.earns is None:
            return Proxies(())
        return Proxies(rollout.earns.rewards, metrics, self.state.step, fresh=rollout.every // rollout.epochs)

    def say(self, line: str) -> None:
        """A line about what goes on in this training."""
        self.context.say(f"{self.stage.reference}: {line}")

    def to_end(self) -> dict[str, Any]:
        """Trains what is left, writes the model, and returns the summary."""
        stage, context, state, course, checkpoints = self.stage, self.context, self.state, self.course, self.checkpoints
        for line in self.forecast():
            self.say(line)
        if stage.watch.prompts and not context.mesh.alone:
            self.say("its prompts are answered when the model is written; until then no rank has the whole of it")
        if not self.resumed:
            self.show_examples()
            self.measure()
        progress = Progress(course.steps, lambda line: context.progress(f"{stage.reference}: {line}"), context.quiet)
        seconds, began = 0.0, state.step
        there = bytes_there(state)
        try:
            with self.notice, Peak(context.device) as peak:
                for report in () if self.watched.verdict.reason else self.steps(course):
                    seconds += report.seconds
                    self.record(report, progress)
                    self.tell_plan(report, peak.counts, there + peak.bytes)
                    last = report.step == course.steps
                    if last or (stage.watch.every and report.step % stage.watch.every == 0):
                        self.measure()
                    if reason := self.watched.verdict.reason:
                        self.say(f"step {report.step}: {reason}; it ends here")
                        last = True
                    if last or checkpoints.keep.permanent(report.step) or any(report.wish):
                        self.save()
                    if report.wish.leave and not last:
                        checkpoints.settle()
                        raise StoppedError(f"{stage.reference}: asked to end, saved at step {state.step}; the same command goes on")
                    if last:
                        break
                checkpoints.settle()
        finally:
            checkpoints.close()
            for record in (progress, self.metrics, self.samples, self.trackers):
                record.close()
            if state.known.events and context.mesh.leads:
                write_healing(self.folder, stage.reference, state.known, self.raw, self.tokenizer)
        tokens = (stage.batches.rows_before(state.step) - stage.batches.rows_before(began)) * stage.max_seq_len
        speed = tokens / seconds if seconds else 0.0
        compared = self.compared(speed, peak.counts, there + peak.bytes)
        return self.write_model({"seconds": round(seconds, 3), "tokens_per_s": round(speed, 1), **compared})

    def save(self) -> None:
        """Makes a checkpoint, and lets go of rounds that no step behind any of the checkpoints reads."""
        self.checkpoints.save(self.state)
        self.saved = time.monotonic()
        if isinstance(self.source, Rollouts) and (there := found(self.checkpoints.folder)):
            self.source.forget(step_of(there[-1]))

    def show_examples(self) -> None:
        """An example of each corpus of which some is learnt and some only read."""
        corpora = packed_in(self.raw)
        for share in self.stage.sources:
            corpus = corpora.get(share.tokens.name)
            if corpus is not None and corpus.shards.masked and self.context.mesh.leads:
                looked = min(LOOKED_AT, self.stage.total_rows)
                if idle := 0 if corpus.packing.whole else corpus.unlearnt_rows(looked):
                    self.say(f"{idle} of the first {looked} rows of {corpus.name} have nothing to be learnt "
                                     f"in {corpus.time} tokens; packing=Fit() leaves out what has nothing, and cuts no document in two")
                self.context.show(Text(f"{self.stage.reference}: ").append_text(example_of(corpus, self.tokenizer, share.tokens.encoding.told)))

    def wish(self) -> Wish:
        """What this rank asks for: a checkpoint, after a while; or to leave, when it has been told to."""
        return Wish(save=time.monotonic() - self.saved >= self.context.checkpoint_every_s, leave=self.notice.given)

    def steps(self, course: Course) -> Iterator[StepReport]:
        """The steps, looked into where statistics are asked for."""
        snapshots = OnDisk(self.folder / "snapshots", self.checkpoints.folder, self.context.mesh) if self.stage.healing is not None else None
        reports = train(self.state, self.source, course, self.manner, self.wish, self.at, snapshots)
        if (statistics := self.stage.watch.statistics) is None:
            return reports
        inspector = Inspector(statistics, self.state, self.source, course, self.manner)
        return inspector.over(reports, self.write, self.say)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures into the lines and to the trackers."""
        self.metrics.write(step, **figures)
        self.trackers.write(step, figures)

    def write_model(self, session: dict[str, Any]) -> dict[str, Any]:
        """The artifact's files, and the mark that says that they are all there."""
        state, stage = self.state, self.stage
        values = None if state.average is None else state.average.values
        leave_model(self.folder, self.config, state.holding, values)
        if stage.keeps == "optimizer":
            leave_slots(self.folder / SLOTS, state)
        if not self.context.mesh.leads:
            return {}
        if not self.context.mesh.alone and stage.watch.prompts:
            with closing(Lines(self.folder / "samples.jsonl", state.step - 1)) as samples:
                self.answer(read_model(self.folder / "model")[1], samples)
        tokens = stage.batches.rows_before(state.step) * stage.max_seq_len
        summary: dict[str, Any] = {
            **self.sizes(), "steps": state.step, "tokens": tokens, "flops": tokens * self.flops_per_token,
            **self.last_figures(), **session, **self.watched.leave(state.step),
            **({"mixture": self.raw.plain()} if isinstance(self.raw, Mixture) else {}), **in_summary(state.known),
            **({"over_optimised": self.proxies.told} if self.proxies.told else {}),
        }
        write_json(self.folder / SUMMARY, summary)
        return finish(self.workspace, self.context)

    def sizes(self) -> dict[str, int]:
        """Parameters of the model, and how many of them, or beside them, are trained where not all are."""
        if isinstance(self.config, AdaptedConfig):
            return {"parameters": self.config.n_weights, "trained": self.config.n_params}
        return {"parameters": self.config.n_params}

    def last_figures(self) -> dict[str, float]:
        """The last loss and the last measurements, as the metrics have them."""
        figures: dict[str, float] = {}
        kept = ("held_out/", "suite/", "reward/")
        for line in (self.folder / "metrics.jsonl").read_text().splitlines():
            found = json.loads(line)
            figures |= {name: value for name, value in found.items() if name in ("loss", "reward", "kl") or name.startswith(kept)}
        return figures

    def record(self, report: StepReport, progress: Progress) -> None:
        """Metrics and progress of a step."""
        utilisation = report.tokens_per_s * self.flops_per_token / self.rate
        figures = {
            "loss": report.loss, "grad_norm": report.grad_norm, "learning_rate": report.learning_rate,
            "tokens_per_s": round(report.tokens_per_s, 1), "utilisation": round(utilisation, 4), **report.metrics,
        }
        if len(set(report.rates.values())) > 1:
            figures |= {f"learning_rate/{role}": rate for role, rate in report.rates.items()}
        if report.update_norm is not None:
            figures["update_norm"] = report.update_norm
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        healed = {"healing": [event.plain() for event in report.events]} if report.events else {}
        for event in report.events:
            self.say(str(event))
        noticed = {"noticed": told} if (told := self.proxies.note(report.step, report.metrics)) else {}
        if told:
            self.say(told)
        self.metrics.write(report.step, tokens=report.tokens, learnt=report.learnt, **figures, **healed, **noticed)
        self.trackers.write(report.step, figures)
        progress.show(report, utilisation)

    def tell_plan(self, report: StepReport, counts: str, most: int) -> None:
        """What was planned beside what it takes so far, now and then."""
        if self.outlook is not None and time.monotonic() - self.planned_at >= PLAN_EVERY_S:
            self.planned_at = time.monotonic()
            write_json(self.folder / PLAN, compare(self.outlook, {"tokens_per_s": round(report.tokens_per_s, 1), counts: most}))

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
                frozen=self.state.beside.frozen,
            )
            figures |= {f"held_out/{name}/{what}": value for what, value in found.items()}
        if suites := self.watched.measure(model, self.manner.micro_batch, self.context.device):
            self.say(f"step {step}: {self.watched.told(suites)}")
        if figures | suites:
            self.write(step, figures | suites)
            self.watched.note(step, figures | suites, self.config, self.state.holding)
        if figures:
            what, words = ("bits_per_byte", "bits per byte") if stage.task.every_token else ("loss", "loss")
            told = "  ".join(f"{name} {figures[f'held_out/{name}/{what}']:.3f}" for name in self.held_out)
            self.say(f"step {step}: {words} of held-out text: {told}")
        if self.context.mesh.alone:
            self.answer(model, self.samples)

    def answer(self, model: Model, samples: Lines) -> None:
        """What a model that this rank has as a whole makes of the watched prompts."""
        watch, step = self.stage.watch, self.state.step
        texts = answers(model, watch.prompts, self.tokenizer, watch.template, watch.sampler, watch.max_new_tokens)
        for prompt, text in zip(watch.prompts, texts, strict=True):
            samples.write(step, prompt=prompt, answer=text)
            self.say(f"step {step}: {prompt!r} → {text!r}")

    def forecast(self) -> list[str]:
        """What the run will take, told before it begins."""
        stage, manner, left = self.stage, self.manner, self.stage.total_steps - self.state.step
        tokens = (stage.total_rows - stage.batches.rows_before(self.state.step)) * stage.max_seq_len
        params, trained = self.sizes()["parameters"], self.trained
        whose = "of an adapter" if isinstance(self.config, AdaptedConfig) else "of them"
        return [
            f"{human_count(params)} parameters{'' if trained == params else f', {human_count(trained)} {whose} trained'}, "
            f"{left} steps of {'at most ' if stage.batches.levels else ''}{human_count(stage.batch_tokens)} tokens: "
            f"{human_count(tokens)} tokens, {human_count(tokens * self.flops_per_token)}FLOP; "
            f"{manner.micro_batch} of {stage.rows} rows at a time, {'compiled' if manner.compiled else 'eager'}",
            *self.planned(tokens),
            *self.source.describe(stage.total_rows),
        ]

    def planned(self, tokens: int) -> list[str]:
        """Time and memory as the plan has them."""
        if self.outlook is None:
            return []
        pace, memory = self.outlook.speed.tokens_per_s, self.outlook.memory
        parts = " + ".join(f"{kind} {human_bytes(size)}" for kind, size in memory.parts.items() if size)
        return [
            f"planned: {human_seconds(tokens / pace)} at {human_count(pace)} tokens/s, if {UTILISATION:.0%} of the measured "
            f"{human_count(self.rate)}FLOP/s are reached; {human_bytes(memory.total)} of tensors at a time: {parts}"
        ]

    @cached_property
    def outlook(self) -> Outlook | None:
        """The plan of the run as it is; None on ranks that tell nothing, and where none can be made, which ends no training."""
        stage, context = self.stage, self.context
        if not context.mesh.leads:
            return None
        called = COMPILED if self.manner.compiled else 1.0
        try:
            return outlook_of(self.plan, self.machine, stage.rows, context.mesh.layout, self.manner.micro_batch, context.recompute, called)
        except Exception as error:  # an objective may do what tensors without memory cannot
            self.say(f"no plan can be made ({type(error).__name__}: {error})")
            return None

    def compared(self, tokens_per_s: float, counts: str, most: int) -> dict[str, Any]:
        """What was planned beside what was measured, for the summary. All ranks must ask.

        Args:
            tokens_per_s: of all ranks.
            counts: what was counted as memory.
            most: bytes of it that this rank had at a time.
        """
        there = bytes_by_kind(self.state) | {counts: most}
        if self.stage.healing is not None:  # what updates are taken back to, of which nobody else knows
            there["optimizer"] += sum(held.local.nbytes for held in self.state.holding.trainable())
        fullest = self.context.mesh.world.gather(torch.tensor(list(there.values()))).amax(0).tolist()
        measured = {"tokens_per_s": round(tokens_per_s, 1), **dict(zip(there, fullest, strict=True))}
        return {} if self.outlook is None else {"plan": compare(self.outlook, measured)}

    def needs(self) -> Needs:
        """What steps hold in memory, and what less they could."""
        stage, context = self.stage, self.context
        return Needs(
            plan=lambda rows: stage.memory(self.plan, rows, context.mesh.layout, context.recompute), there=bytes_there(self.state),
            micro_batch=self.manner.micro_batch, instead=stage.instead(self.plan, context.recompute) if context.mesh.alone else {},
        )  # fmt: skip

    def _flops_per_token(self) -> float:
        """Operations of a step as it is, per token; of one that trains all of the model, where that cannot be known."""
        try:
            return flops_per_token(self.plan)
        except Exception:  # an objective may do what tensors without memory cannot
            return self.config.flops_per_token(self.stage.max_seq_len)

    def _manner(self) -> Manner:
        stage, context, mesh = self.stage, self.context, self.context.mesh
        measure = row_meter(self.state, self.source, stage.objective, stage.precision, context.device)
        micro_batch = as_begun(
            self.folder, mesh, context.micro_batch, lambda: rows_at_a_time(stage, context, self.config, lambda: self.machine, measure)
        )  # fmt: skip
        return manner_of(context, self.state, micro_batch, measure, stage.total_rows * stage.max_seq_len * self.flops_per_token)
