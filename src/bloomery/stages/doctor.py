"""A training of a recipe, brought to the doctor as it would start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from bloomery.data import TokenShards
from bloomery.data.encodings import Chat
from bloomery.mesh import Layout
from bloomery.objectives import CausalLM, Models
from bloomery.stages.adapted import Adapted
from bloomery.stages.init import Continue
from bloomery.stages.look_back import frozen_models
from bloomery.stages.micro_batch import rows_at_a_time
from bloomery.stages.planner import here
from bloomery.stages.prepare import documents
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TOKENIZER
from bloomery.stages.train import Train
from bloomery.stages.trained import Trained
from bloomery.store import Store
from bloomery.text.instructions.preferences import preference_of
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.doctor import Effort, Finding, Patient, examine
from bloomery.train.machine import activation_bytes
from bloomery.train.spreading import fresh, spread_model

Make = Literal["nothing", "data", "all"]
"""What the doctor makes of what is missing: nothing; corpora, tokenizers and tokens; or trainings, too."""


def examine_training(stage: Train, context: RunContext, make: Make, effort: Effort) -> Iterator[Finding]:
    """What the doctor finds in a training.

    Where it goes on from a training that is not made, and not to be made now, fresh weights of the same model stand in for its own.

    Args:
        stage: the training.
        context: where and how it would run.
        make: what to make of what is missing.
        effort: how thoroughly to look.
    """
    there = {one.reference: one.run(context) for one in needed(stage) if may_make(one, make, context.store)}
    base = next((one for one in begun_with(stage) if one.reference not in there), None)
    missing = [one for one in needed(stage) if one.reference not in there and one not in begun_with(stage)]
    if base is not None and stage.architecture is None:
        missing.append(base)
    if missing:
        names = ", ".join(one.reference for one in missing)
        remedy = "Run the recipe up to them, or let the doctor: --make data, and --make all for trainings"
        yield Finding(check="inputs", verdict="warn", figure=f"{names} are not there", rule="it cannot be examined without them", remedy=remedy)
        return
    if base is not None:
        rule = "fresh weights of the same model stand in for its own"
        remedy = "--make all makes it first"
        yield Finding(check="inputs", verdict="pass", figure=f"{base.reference} is not there", rule=rule, remedy=remedy)
    yield from examine(patient_of(stage, context, Inputs(there), effort, stand_in=base))


def patient_of(stage: Train, context: RunContext, inputs: Inputs, effort: Effort, stand_in: Trained | None = None) -> Patient:
    """The training as it would start; `stand_in` is the base whose weights fresh ones stand in for. One that learns from what it earns on rows
    of its own is examined as if it learnt the rows that its prompts are of."""
    tokenizer = Tokenizer.load(inputs[stage.tokenizer].checked(TOKENIZER))
    shards = {share.tokens.name: TokenShards.open(inputs[share.tokens]) for share in stage.sources}
    source = stage.posed(stage._source(shards), tokenizer)
    if stand_in is not None and stage.learner is not None:
        config, fill = stage.learner, fresh(stage.learner, stage.seed)
    else:
        config, fill = stage.load(inputs)
    model = spread_model(config, context.mesh, fill, stage.trainable).model.to(context.device)
    objective = CausalLM() if stage.objective.needs else stage.objective  # rows of its own are written by a policy that learns
    frozen = frozen_models(objective.frozen(), inputs, context.mesh, config)
    rows = rows_at_a_time(
        stage, context, config, lambda: here(context.device, stage.precision),
        lambda: activation_bytes(objective, Models(model, frozen), source.batch(0, 1).to(context.device), stage.precision),
    )  # fmt: skip
    planned = stage.planned(config, context.offload, "cuda" if context.device.startswith("cuda") else "cpu")
    trained = stage.architecture is None or isinstance(stage.init, Adapted | Continue)
    patient = Patient(
        config=config, model=model, weights="trained" if trained and stand_in is None else "fresh", source=source,
        again=lambda: stage.posed(stage._source(shards), tokenizer), tokenizer=tokenizer, task=stage.task, objective=objective,
        optimizer=stage.updater, frozen=frozen, rows=stage.rows, clip_norm=stage.clip_norm, precision=stage.precision, seed=stage.seed,
        effort=effort,
        rate=1.0 if stage.batch_rule is None else stage.batch_rule.factor(stage.batch_tokens),
        plan=lambda rows: stage.memory(planned, rows, Layout(), context.recompute), instead=stage.instead(planned, context.recompute),
        micro_batch=rows,
    )  # fmt: skip
    read = {(span.source, span.id) for span in patient.raw.documents(0, patient.read_rows)}
    said: dict[str, Sequence[str]] = {}
    for share in stage.sources:
        said |= said_in(share.tokens, {id for name, id in read if name == share.tokens.name}, tokenizer, context.store)
    return replace(patient, said=said)


def needed(stage: Train) -> list[Stage]:
    """What a training reads to start: its tokenizer, its tokens, the training that it goes on from, and what its objective looks back at."""
    looked_at = [one for path, one in stage.inputs().items() if path.startswith(("objective.", "rollout."))]
    read = (stage.tokenizer, *(share.tokens for share in stage.sources), *begun_with(stage), *looked_at)
    return list({one.reference: one for one in read}.values())


def begun_with(stage: Train) -> list[Trained]:
    """The trainings, or conversions, whose weights it starts with."""
    return [one for path, one in stage.inputs().items() if path.startswith("init.") and isinstance(one, Trained)]


def may_make(stage: Stage, make: Make, store: Store) -> bool:
    """Whether a stage is there, or is to be made; trainings are only made with "all", and so is what stands on one."""
    if store.find(stage.reference) is not None or make == "all":
        return True
    return make == "data" and not isinstance(stage, Trained) and all(may_make(one, make, store) for one in stage.inputs().values())


def said_in(tokens: Tokenize, ids: set[str], tokenizer: Tokenizer, store: Store) -> Mapping[str, Sequence[str]]:
    """Of some documents that are conversations, by id: the texts in them that are to be learnt, as the tokenizer spells them."""
    corpus = store.find(tokens.corpus.reference)
    found: dict[str, Sequence[str]] = {}
    if not isinstance(tokens.encoding, Chat) or corpus is None:
        return found
    for batch in documents(corpus, "documents" if tokens.split == "train" else "held_out", ("id", "messages", "meta")):
        for row in batch.to_pylist():
            if row["id"] in ids and row["messages"] and preference_of(row["messages"], row["meta"]) is None:
                marks = json.loads(row["meta"] or "{}").get("learn") or [None] * len(row["messages"])
                turns = tokens.encoding.learn.turns([message["role"] for message in row["messages"]], marks)
                texts = [message["content"] for message, learnt in zip(row["messages"], turns, strict=True) if learnt]
                found[row["id"]] = [tokenizer.decode(tokenizer.encode(text)) for text in texts]
        if len(found) == len(ids):
            break
    return found

