"""`Training`: what a training is: its fields, what is refused, and what follows from them; `Train` is the stage that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from annotated_types import Ge, Gt, Lt

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.units import Steps, Tokens, human_count
from bloomery.data import Corpus, Cut, Each, Given, Mixing, NextToken, Packing, Posed, RowTask, Source, TokenShards, Vocabulary
from bloomery.mesh import Layout
from bloomery.models import AdaptedConfig, ModelConfig, beneath
from bloomery.nn.adapters import Adapter
from bloomery.nn.init import Fill
from bloomery.objectives import CausalLM, Frozen, Objective, Penalty
from bloomery.optim import AdamW, Batches, BatchRamp, BatchRule, Everything, NoRamp, OptimizerConfig, Schedule, Trainable, WarmupCosine
from bloomery.planning.memory import Memory, memory
from bloomery.stages.adapted import Adapted
from bloomery.stages.anatomy import Planned, anatomy_of
from bloomery.stages.heads import check_labels, check_terms
from bloomery.stages.init import Continue, Init
from bloomery.stages.look_back import check_look_back
from bloomery.stages.rate import OwnRate, Rate
from bloomery.stages.rows import contributions, mixed_of, packed_of
from bloomery.stages.stage import Inputs
from bloomery.stages.task import check_completions, check_task
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import LoadTokenizer, TrainTokenizer
from bloomery.stages.trained import Trained, Tuning
from bloomery.stages.watch import Watch
from bloomery.store import Store
from bloomery.text.tokenizer import Tokenizer
from bloomery.train import Healing, Precision
from bloomery.train.offload import Offloaded
from bloomery.train.recompute import Recompute, blocks_again
from bloomery.train.rollouts import Rollout, check_rollout, check_samples
from bloomery.train.stopping import StopRule


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

class Training(Trained):
    """The fields of a training. `Train` carries it out."""

    tokenizer: TrainTokenizer | LoadTokenizer
    """The tokenizer of all corpora; a copy goes with the model."""
    init: Init
    """`Scratch(model=…)`, `Continue(base=…)` or `Hub(path=…)`; `HeadsOn(init=…, heads=…)` with heads for tasks; `Adapted(adapter=…)` with
    an adapter that was trained before."""
    sources: tuple[Share, ...]
    """What to train on."""
    mixing: Mixing = Given()
    """How much of which: `Given()` (the shares' proportions), `Temperature()`, `UniMax()`, `Ratio()` or `Curriculum()`."""
    packing: Packing = Cut()
    """How documents become rows: `Cut()`, `Fit()` or `Each()`."""
    rollout: Rollout | None = None
    """How the model itself writes what it learns from, to prompts that rows of `Each()` begin with; None has it learn the rows."""
    task: RowTask = NextToken()
    """What is to be learnt from rows: `NextToken()`, `PrefixLM()`, `MaskedTokens()`, `SpanCorruption()`, `FromPassage()`, `FromPrefix()`,
    `SentenceOrder()` or `TellLabels()`."""
    adapter: Adapter | None = None
    """What is trained instead of the model's weights: `LoRA()`, `DoRA()`, `PromptTuning()` and others; None trains them all. The artifact has
    it alone in `adapter/`, and in `model/` what it makes of the model."""
    objective: Objective = CausalLM()
    """The loss."""
    optimizer: OptimizerConfig = AdamW()
    """How gradients become updates."""
    rate: Rate = OwnRate()
    """Where the full learning rate comes from: `OwnRate()`, that of the optimizer, or `ShareOf(base=…)`."""
    trainable: Trainable = Everything()
    """What of the model is trained: `Everything()`, `LastLayers(count=…)`, `Heads()`, `Paths(paths=…)`, `Everything() - Embeddings()`, …"""
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
    """Of matrix products. bf16, fp16 and fp8 pay where there are units for them, which few CPUs have."""
    healing: Healing | None = Healing()
    """What is done about steps that would harm the model; None stops at the first that is not finite, and lets all others pass."""
    ema: Annotated[float, Ge(0), Lt(1)] | None = None
    """Decay of a moving average of the weights, which is then what is measured and kept; None keeps the last weights."""
    seed: int = 0
    """Of initial weights and of the order of documents."""
    watch: Watch = Watch()
    """What is measured along the way."""
    keeps: Literal["model", "optimizer"] = "model"
    """What is left when it is done: the model, or with it the optimiser's state, for a phase that goes on with it (`then`)."""
    stop: StopRule | None = None
    """When it ends before its last step, and which weights it leaves: `Patience(figure=…)` or `Holds(suite=…)`; None trains to the end and
    leaves the last."""

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
        corpora |= {f"watch.suites[{i}].tokens": suite.tokens for i, suite in enumerate(self.watch.suites)}
        for path, corpus in corpora.items():
            if corpus.tokenizer != self.tokenizer:
                raise ConfigError(f"Train.{path} is encoded with {corpus.tokenizer.reference}, not with Train.tokenizer="
                                  f"{self.tokenizer.reference}; use one tokenizer for all")  # fmt: skip
        if (base := self.init.goes_on_from) is not None and base.vocabulary != self.tokenizer:
            raise ConfigError(f"Train.init.base was trained with {base.vocabulary.reference}, not with Train.tokenizer="
                              f"{self.tokenizer.reference}; use its tokenizer")  # fmt: skip
        if self.init.carried is not None:
            self._check_carried(self.init.carried)
        suites = [suite.name for suite in self.watch.suites]
        if twice := {name for name in suites if suites.count(name) > 1}:
            raise ConfigError(f"Train.watch.suites has two named {min(twice)!r}; give their Tokenize stages names of their own")
        if self.stop is not None:
            self.stop.check_measured(self.watch.figures)
            if self.watch.every is None:
                raise self.refuse("stop", "can decide at the end only, as watch.every=None measures nowhere else; set it to some steps")
            if self.keeps == "optimizer":
                raise self.refuse("stop", "may leave weights of an earlier step, and keeps='optimizer' the last state; leave one of them out")
        if not self.objective.reads_rows:
            raise self.refuse("objective", "only holds weights where they were; add a loss of rows to it, as CausalLM() + …")
        if self.rollout is not None:
            if not isinstance(self.packing, Each) or not isinstance(self.task, NextToken):
                raise self.refuse("rollout", "takes the prompt of each row, from which each next token is told; take packing=Each() and "
                                  "task=NextToken()")  # fmt: skip
            check_rollout(self.rollout, self.max_seq_len, all(share.tokens.encoding.masked for share in self.sources))
        check_samples(self.objective, self.rollout, self.batches)
        if self.objective.needs and self.watch.held_out:
            raise ConfigError("Train.watch.held_out has rows that the model did not write, of which Train.objective can say nothing; leave "
                              "it out")  # fmt: skip
        check_look_back(self.objective, self.tokenizer, self.architecture, self.judges)
        self.mixing.weights([Corpus(name=s.tokens.name, tokens=1, proportion=s.proportion, group=s.group) for s in self.sources])
        if (model := self.init.architecture) is not None:
            self.check_model(model)

    def _check_carried(self, base: Trained) -> None:
        if not isinstance(base, Training) or base.keeps != "optimizer":
            raise ConfigError(f"Train.init.carry='optimizer': {base.kind()}/{base.name} leaves no state of an optimiser; give a Train "
                              "keeps='optimizer', as base.then(…) does, or carry='weights'")  # fmt: skip
        if base.optimizer.rules != self.optimizer.rules:
            raise ConfigError(f"Train.init.carry='optimizer': the base's state is that of {' and '.join(base.optimizer.rules)}, with which "
                              f"{' and '.join(self.optimizer.rules)} cannot go on; take the same, or carry='weights'")  # fmt: skip

    def check_model(self, model: ModelConfig) -> None:
        """Checks the rules that join the training and its model, which may not be known before the weights are read."""
        most = self.adapted(model).max_seq_len
        if self.longest > most:
            virtual = f" less {model.max_seq_len - most} virtual tokens" if most < model.max_seq_len else ""
            raise self.refuse("max_seq_len", f"is longer than the model's max_seq_len={model.max_seq_len}{virtual}; {most} is the most")
        check_task(self.task, model, self.tokenizer, self.longest)
        if self.rollout is not None and (model.reads_passage or not model.reads_forward):
            raise self.refuse("rollout", f"has the model write, to prompts alone, which a {model.kind()} does not; take a decoder")
        if self.watch.prompts and (model.reads_passage or not model.reads_forward):
            raise ConfigError(f"Train.watch.prompts are for models that go on with a text, which Train.init's {model.kind()} does not; leave "
                              "them out")  # fmt: skip
        self.objective.check_training(beneath(model), self.task)
        for _, penalty in self.objective.penalties():
            self._check_pulled(penalty, self.adapted(model))
        encodings = [share.tokens.encoding for share in self.sources]
        check_labels(encodings, self.task, model)
        check_terms(self.objective, self.task, encodings)
        check_completions(self.task, encodings)
        if any(encoding.whole for encoding in encodings) and not self.packing.whole:
            raise self.refuse("packing", "cuts documents, and labels and what is rewritten are of whole ones; take Fit()")
        if not isinstance(self.trainable, Everything):
            with torch.device("meta"):
                self.trainable.freeze(self.adapted(model).skeleton())

    def _check_pulled(self, penalty: Penalty, model: ModelConfig) -> None:
        """Refuses a penalty on weights that an adapter does not move, or moves otherwise than by adding to them."""
        trained = model.adapter if isinstance(model, AdaptedConfig) else None
        if trained is not None and not trained.merges and not trained.whole and penalty.towards.architecture != model:
            raise ConfigError(f"Train.objective: {penalty.kind()} holds weights, and {trained.kind()} moves none; leave the penalty out, take "
                              "adapter=LoRA(), or hold what the model says by Distil(teacher=…)")  # fmt: skip
        while isinstance(model, AdaptedConfig):
            if model.adapter.merges and not model.adapter.adds:
                raise ConfigError(f"Train.objective: {penalty.kind()} pulls at what is added to matrices, and {model.adapter.kind()} turns and "
                                  "stretches their rows; take adapter=LoRA() or RsLoRA()")  # fmt: skip
            model = model.base

    def then(self, *, name: str, **changes: Any) -> Self:
        """The next phase: this training once more, on from the weights that it leaves and with the optimiser's state of what both train, but
        for what is changed. An adapter is trained further; where another `adapter` is given, or None, what it has come to is taken into the
        weights, and the optimiser begins anew.

            base.then(name="top", trainable=LastLayers(count=12), steps=500).then(name="all", trainable=Everything(), steps=500)

        It reads its rows from the first on, in the order of its seed. Where this training is wanted for itself as well, give it
        keeps="optimizer", so that it is made once.

        Args:
            name: of the phase.
            changes: fields that are other ones than here; `steps` and `tokens` take each other's place.
        """
        length = {} if {"steps", "tokens"}.isdisjoint(changes) else {"steps": None, "tokens": None}
        if self.tuning is not None and "adapter" in changes:
            return self.replace(**{"name": name, "init": Continue(base=self), "keeps": "model"} | length | changes)
        base = self if self.keeps == "optimizer" else self.replace(keeps="optimizer")
        init = Continue(base=base, carry="optimizer") if self.tuning is None else Adapted(adapter=base, carry="optimizer")
        return self.replace(**{"name": name, "init": init, "adapter": None, "keeps": "model"} | length | changes)

    @property
    def tuning(self) -> Tuning | None:
        init, adapter = self.init.tunes or (self.init, None)
        init, adapter = (self.init, self.adapter) if self.adapter is not None else (init, adapter)
        return None if adapter is None else Tuning(init, adapter, self.seed)

    @property
    def judges(self) -> tuple[Frozen, ...]:
        """The models that are asked about what the model writes."""
        return () if self.rollout is None or self.rollout.earns is None else self.rollout.earns.frozen()

    @property
    def longest(self) -> int:
        """Tokens of the longest document in its rows: those of a row, or where all encodings set a limit, that; choices share a row."""
        limits = [share.tokens.encoding.longest or self.max_seq_len for share in self.sources]
        return min(self.max_seq_len, max(limits))

    @property
    def updater(self) -> OptimizerConfig:
        """The optimiser at the rate that it has in this training."""
        return self.rate.given_to(self.optimizer)

    @property
    def peak_rate(self) -> float:
        return self.updater.learning_rate * (1.0 if self.batch_rule is None else self.batch_rule.factor(self.batch_tokens))

    @property
    def architecture(self) -> ModelConfig | None:
        return None if self.init.architecture is None else self.adapted(self.init.architecture).stored().config

    @property
    def learner(self) -> ModelConfig | None:
        """The model while it is trained, with its adapter where there is one; None where it is not known before anything is run."""
        return None if self.init.architecture is None else self.adapted(self.init.architecture)

    def adapted(self, model: ModelConfig) -> ModelConfig:
        """A model with the adapter, where there is one."""
        return model if self.adapter is None else AdaptedConfig(base=model, adapter=self.adapter)

    def load(self, inputs: Inputs) -> tuple[ModelConfig, Fill]:
        """The model that is trained, and what tells its weights at step 0 one by one."""
        config, fill = self.init.load(inputs, self.seed)
        self.check_model(config)
        adapted = self.adapted(config)
        return adapted, adapted.filled(fill, self.seed) if isinstance(adapted, AdaptedConfig) and self.adapter is not None else fill

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

    @property
    def tokens_before(self) -> int:
        """Tokens that its weights were trained on before it, as far back as trainings go on from trainings."""
        base = self.init.goes_on_from
        return base.tokens_before + base.total_rows * base.max_seq_len if isinstance(base, Training) else 0

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

    def planned(self, config: ModelConfig, offload: frozenset[Offloaded] = frozenset(), device: Literal["cpu", "cuda"] = "cpu") -> Planned:
        """What a plan has to know of it.

        Args:
            config: of the model.
            offload: what would wait in the host's memory.
            device: where it would run.
        """
        return Planned(
            config=config, time=self.max_seq_len, objective=self.objective, optimizer=self.optimizer, task=self.task,
            precision=self.precision, decay=self.ema, guarded=self.healing is not None, trainable=self.trainable,
            device=device, offload=offload, before=self.init.goes_on_from or (self.init if isinstance(self.init, Frozen) else None),
            writes=self.rollout is not None,
        )  # fmt: skip

    def memory(self, planned: Planned, micro_batch: int, layout: Layout, again: Recompute) -> Memory:
        """What the rank that holds the most holds at the worst moment of a step.

        Args:
            planned: what a plan knows of it.
            micro_batch: rows per forward pass.
            layout: of the ranks.
            again: what is computed again.
        """
        anatomy = anatomy_of(planned, micro_batch, planned.keeps(again))
        return max(memory(anatomy, layout, self.rows, blocks_again(anatomy, layout, again)), key=lambda of_rank: of_rank.total)

    def instead(self, planned: Planned, again: Recompute) -> dict[str, Callable[[], Memory]]:
        """Settings for a training of which one rank cannot hold a row → what they would take there, the simplest first."""
        full = {} if again.kind == "full" else {
            "--recompute full --micro-batch 1": partial(self.memory, planned, 1, Layout(), Recompute("full"))
        }  # fmt: skip
        return full | {
            f"--layout shard={ranks} --micro-batch 1 on {ranks} ranks": partial(self.memory, planned, 1, Layout(shard=ranks), again)
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
