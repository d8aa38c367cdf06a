"""From a trained model back to the documents of any of its steps."""

from __future__ import annotations

from typing import Any

from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.data import Cut, Fit, Mixed, Packing, RowTask, Source, Span, SpanCorruption, TokenShards
from bloomery.optim import BatchRamp, Doublings, NoRamp, Rising
from bloomery.stages.rows import mixed_of, packed_of
from bloomery.stages.train import Train
from bloomery.store import Artifact

PACKINGS: dict[str, type[Packing]] = {"Cut": Cut, "Fit": Fit}
LONGER_ROWS: dict[str, type[RowTask]] = {"SpanCorruption": SpanCorruption}
"""Tasks whose rows are made of longer ones."""
RAMPS: dict[str, type[BatchRamp]] = {"NoRamp": NoRamp, "Doublings": Doublings, "Rising": Rising}


def train_source(artifact: Artifact) -> Source:
    """The exact rows that a model was trained on, rebuilt from its manifest and the token shards beside it in the store.

    Raises:
        ArtifactError: it is not a training's, its shards are gone or damaged, or it was made under another contract.
    """
    fields, store = artifact.manifest.fields, artifact.path.parent.parent
    if artifact.manifest.stage != Train.kind() or fields.get("contract", 1) != Train.contract:
        raise ArtifactError(f"{artifact.reference} is not a training of this version, so its batches cannot be traced; give a {Train.kind()}")
    shards, proportions = {}, {}
    for share in fields["sources"]:
        tokens = share["tokens"]
        shards[tokens["name"]] = TokenShards.open(Artifact.open(store / tokens["stage"] / f"{tokens['name']}-{tokens['key']}"))
        proportions[tokens["name"]] = share.get("proportion", 1.0)
    packing = {name: value for name, value in fields.get("packing", {"kind": "Cut"}).items() if name not in ("kind", "contract")}
    kind = PACKINGS[fields.get("packing", {"kind": "Cut"})["kind"]]
    phases = [Mixed(*phase) for phase in artifact.manifest.summary.get("mixture", [[0, proportions]])]
    return mixed_of(packed_of(shards, kind(**packing), _raw_time(fields), fields.get("seed", 0)), phases)


def _raw_time(fields: dict[str, Any]) -> int:
    """Tokens in a row before the task."""
    task = {name: value for name, value in fields.get("task", {}).items() if name not in ("kind", "contract")}
    kind = LONGER_ROWS.get(fields.get("task", {}).get("kind"))
    return fields["max_seq_len"] if kind is None else kind(**task).raw_time(fields["max_seq_len"])


def documents_of_step(artifact: Artifact, step: int) -> list[Span]:
    """The documents in the batch of one step, by row and place.

    Args:
        artifact: a finished training.
        step: from 1, as in its metrics.

    Raises:
        ConfigError: it had no such step.
    """
    fields, steps = artifact.manifest.fields, artifact.manifest.summary["steps"]
    if not 1 <= step <= steps:
        raise ConfigError(f"step={step} is not one of {artifact.reference}, whose steps are 1 to {steps}")
    time, plain = fields["max_seq_len"], fields.get("ramp", {"kind": "NoRamp"})
    ramp = RAMPS[plain["kind"]](**{name: value for name, value in plain.items() if name not in ("kind", "contract")})
    batches = ramp.batches(fields["batch_tokens"] // time, time)
    jumps = artifact.manifest.summary.get("healing", {}).get("jumps", [])
    passed_over = max((rows for from_step, rows in jumps if from_step < step), default=0)
    return train_source(artifact).documents(batches.rows_before(step - 1) + passed_over, batches.rows_of(step - 1))
