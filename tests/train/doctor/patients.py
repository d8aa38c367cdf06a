"""Healthy trainings at the smallest size, as patients; tests break one thing each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from bloomery.data import Cut, Fit, MaskedTokens, Packed, SpanCorruption, TellLabels
from bloomery.data.alike import Matches
from bloomery.data.encodings import Chat, Encoding
from bloomery.data.labelled import Classes
from bloomery.data.rewrites import Rewrites
from bloomery.data.source import Rows
from bloomery.models import BertConfig, LlamaConfig, SequenceClassificationConfig, SimilarityConfig, T5Config
from bloomery.nn import FanInInit, LastPoolingConfig
from bloomery.objectives import CausalLM, HeadCrossEntropy, InfoNCE
from bloomery.optim import AdamW
from bloomery.stages.doctor import needed, patient_of
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.store import Store
from bloomery.text.readers import TaleConversations, TaleRows, TaleStories
from bloomery.text.tales import KINDS, Tales
from bloomery.train.doctor import Check, Effort, Finding, Patient

SHORT = Tales(size="short")
STORIES = Prepare(name="stories", source=TaleStories(tales=SHORT, count=80))
TALKS = Prepare(name="talks", source=TaleConversations(tales=SHORT, first=80, count=40, questions=2))
TOKENIZER = TrainTokenizer(corpora=(STORIES,), vocab_size=400)
TOLD = Tokenize(name="told", corpus=STORIES, tokenizer=TOKENIZER)
SPOKEN = Tokenize(name="spoken", corpus=TALKS, tokenizer=TOKENIZER, encoding=Chat())

ROWS = Prepare(name="rows", source=TaleRows(tales=SHORT, first=120, count=40))


def asked(encoding: Encoding) -> Tokenize:
    """Tasks about tales."""
    return Tokenize(name=encoding.kind().lower(), corpus=ROWS, tokenizer=TOKENIZER, encoding=encoding)


SIZES = {"vocab_size": 416, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 48, "max_seq_len": 512}
DECODER = Scratch(model=LlamaConfig(**SIZES, init=FanInInit()))
LOOK = Effort(tokens=600, directions=1, steps=40, probes=4)
USUAL = {
    "tokenizer": TOKENIZER, "max_seq_len": 256, "batch_tokens": 1024, "steps": 10, "optimizer": AdamW(learning_rate=1e-2), "init": DECODER,
    "sources": (Share(tokens=TOLD),), "packing": Cut(),
}  # fmt: skip
GENTLE = USUAL | {"optimizer": AdamW(learning_rate=5e-3)}

TRAININGS = {
    "decoder": Train(**USUAL),
    "chat": Train(**USUAL | {"sources": (Share(tokens=SPOKEN), Share(tokens=TOLD)), "packing": Fit(), "max_seq_len": 512}),
    "encoder": Train(**GENTLE | {"init": Scratch(model=BertConfig(**SIZES)), "task": MaskedTokens(), "packing": Fit(), "max_seq_len": 512}),
    "several_tasks": Train(**GENTLE | {
        "sources": tuple(Share(tokens=asked(encoding)) for encoding in (
            Rewrites(source="story", target="summary", max_source=200, max_target=56),
            Classes(head="kind", text="question", label="kind", classes=KINDS),
            Matches(head="fits", anchor="story", positive="true", negatives=("false",)),
        )), "packing": Fit(), "max_seq_len": 512,
        "init": HeadsOn(init=Scratch(model=LlamaConfig(**SIZES)), language_head=True, heads=(
            SequenceClassificationConfig(name="kind", n_labels=len(KINDS), pooling=LastPoolingConfig()), SimilarityConfig(name="fits"),
        )),
        "task": TellLabels(classes=("kind",), matches=("fits",), learns="unlabelled"),
        "objective": CausalLM() + HeadCrossEntropy(head="kind") + InfoNCE(head="fits"),
    }),
    "encoder_decoder": Train(**GENTLE | {"init": Scratch(model=T5Config(**SIZES)), "task": SpanCorruption()}),
}


@cache
def context(folder: str) -> RunContext:
    """Where the inputs are made, once."""
    return RunContext(store=Store(folder), quiet=True)


def patient(folder: str, training: Train, **changes: object) -> Patient:
    """A training as it would start, with changes that no config would allow."""
    inputs = Inputs({stage.reference: stage.run(context(folder)) for stage in needed(training)})
    return replace(patient_of(training, context(folder), inputs, LOOK), **changes)


def altered(source: Packed, change: Callable[[Rows, int], Rows]) -> Packed:
    """The same corpus, whose rows are changed: a function of the rows, and of the number of the first."""

    class Altered(Packed):
        def rows(self, first_row: int, rows: int) -> Rows:
            return change(super().rows(first_row, rows), first_row)

    other = copy.copy(source)
    other.__class__ = Altered
    return other


def found(patient: Patient, check: Check, name: str) -> Finding:
    """What a check says under one of its names."""
    return next(finding for finding in check(patient) if finding.check == name)
