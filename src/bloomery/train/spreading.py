"""A model over the ranks of a mesh: built without memory, divided, then filled parameter by parameter, so that no rank holds it all."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bloomery.core.errors import ConfigError
from bloomery.mesh import Holding, Layout, Mesh, Pipeline, spread
from bloomery.models import AdaptedConfig, Model, ModelConfig, Transformer
from bloomery.nn.block import Block
from bloomery.nn.head import TiedHead
from bloomery.nn.init import Fill, Pour, initialise
from bloomery.objectives import Objective
from bloomery.optim import Everything, Trainable
from bloomery.optim.groups import Member, members, members_held


@dataclass(frozen=True, eq=False)
class Spread:
    """What a rank has of a model.

    Attributes:
        model: its layers, heads and units.
        holding: its parameters.
        members: what each parameter that it trains is, for optimisers.
    """

    model: Model
    holding: Holding
    members: list[Member]


def spread_model(config: ModelConfig, mesh: Mesh, fill: Fill, trainable: Trainable = Everything()) -> Spread:  # noqa: B008
    """This rank's part of a model.

    Args:
        config: of the whole model.
        mesh: the ranks.
        fill: where its weights come from: `fresh(config, seed)`, or what reads a file.
        trainable: what of it is trained; the rest is frozen before it is spread, so that ranks neither keep nor add up gradients of it.

    Raises:
        ConfigError: the model cannot be spread like that.
    """
    with torch.device("meta"):
        model = config.skeleton()
    check_layout(config, model, mesh)
    before = sum(parameter.requires_grad for parameter in model.parameters())
    trainable.freeze(model)
    if mesh.layout.pipeline > 1 and sum(parameter.requires_grad for parameter in model.parameters()) < before:
        raise ConfigError(f"--layout {mesh.layout}: stages of a pipeline would have nothing to train under {trainable}; take replicate and "
                          "shard")  # fmt: skip
    everything, tied = members(model), ()
    if mesh.layout.pipeline > 1:
        assert isinstance(model, Transformer)
        mesh.ends()
        tied = tuple(f"embedding.{name}" for name, _ in model.embedding.named_parameters()) if isinstance(model.head, TiedHead) else ()
        model.keep_layers(Pipeline(mesh, len(model.blocks)).own)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    holding = spread(model, blocks, mesh, ("features", "through") if isinstance(model, Transformer) else ("features",), tied)
    fill(holding.pour)
    return Spread(model, holding, members_held(everything, holding))


def pour_all(model: Model, pour: Pour) -> None:
    """Tells the weights of a whole model."""
    for name, parameter in model.named_parameters():
        pour(name, parameter.detach())


def fresh(config: ModelConfig, seed: int) -> Fill:
    """Weights as `config.build(seed)` has them, whatever the ranks."""

    if isinstance(config, AdaptedConfig):
        return config.filled(fresh(config.base, seed), seed)

    def fill(pour: Pour) -> None:
        if config.init.wires:  # looks at several matrices at once
            pour_all(config.build(seed), pour)
            return
        with torch.device("meta"):
            model = config.skeleton()
        initialise(model, config.init, config.n_layers, seed, pour)

    return fill


def check_layout(config: ModelConfig, model: Model, mesh: Mesh) -> None:
    """Refuses layouts that a model as a whole cannot have; what its modules refuse, `spread` does."""
    layout = mesh.layout
    if isinstance(config, AdaptedConfig):
        check_adapter(config, layout)
    if not isinstance(model, Transformer) and layout.pipeline * layout.tensor * layout.context > 1:
        raise ConfigError(f"--layout {layout}: a {config.kind()} is more than one stack of layers, of which only rows can be shared; take "
                          "replicate and shard")  # fmt: skip
    if isinstance(model, Transformer) and (stages := layout.pipeline * layout.stages) > 1:
        if len(model.blocks) < stages:
            raise ConfigError(f"--layout {layout}: {stages} stages for n_layers={len(model.blocks)}; {len(model.blocks)} are the most")
        if len({id(block) for block in model.blocks}) < len(model.blocks):
            raise ConfigError(f"--layout {layout}: the model's layers share their weights, which stages cannot; set pipeline=1")


def check_adapter(config: AdaptedConfig, layout: Layout) -> None:
    """Refuses layouts that a model with an adapter cannot have."""
    if layout.tensor > 1:
        raise ConfigError(f"--layout {layout}: an adapter changes whole matrices, of which tensor ranks have parts; take replicate and shard")
    if layout.pipeline > 1 and config.adapter.picks_layers:
        raise ConfigError(f"--layout {layout}: {config.adapter} is for some of the layers, and stages of a pipeline may have nothing to train; "
                          "take  replicate and shard")  # fmt: skip
    if layout.context * layout.pipeline > 1 and not config.adapter.parts_of_rows:
        raise ConfigError(f"--layout {layout}: {config.adapter.kind()} changes the rows that a model reads, which context and pipeline ranks "
                          "have parts of; take replicate and shard")  # fmt: skip
    if isinstance(config.base, AdaptedConfig):
        check_adapter(config.base, layout)


def check_course(layout: Layout, rows: int, time: int, objective: Objective, writes: bool = False) -> None:
    """Refuses layouts that do not divide the rows of a step, or their time, evenly; that part what a loss looks at as a whole; or the model
    itself, where it `writes` its rows."""
    if rows % layout.readers:
        raise ConfigError(f"--layout {layout}: a step's {rows} rows (batch_tokens / max_seq_len) are not shared evenly by replicate · shard = "
                          f"{layout.readers} ranks; {rows // layout.readers * layout.readers or layout.readers} rows would be")  # fmt: skip
    if time % (ranks := layout.context * layout.tensor):
        raise ConfigError(f"--layout {layout}: max_seq_len={time} is not shared evenly by context · tensor = {ranks} ranks; "
                          f"{-(-time // ranks) * ranks} would be")  # fmt: skip
    if objective.frozen() and layout.pipeline > 1:
        raise ConfigError(f"--layout {layout}: {objective.kind()} asks another model, of which pipeline ranks have a part; "
                          "take replicate and shard")  # fmt: skip
    if objective.looks_inside and layout.context * layout.tensor * layout.pipeline > 1:
        raise ConfigError(f"--layout {layout}: {objective.kind()} looks at the inner states of whole documents, which context, tensor and "
                          "pipeline ranks have parts of; take replicate and shard")  # fmt: skip
    if writes and (layout.world != layout.readers or layout.expert > 1 or (layout.shard > 1 and layout.zero == 3)):
        raise ConfigError(f"--layout {layout}: Train.rollout has each rank write with the whole model, of which these hold parts; take "
                          f"replicate={layout.world}, or shard={layout.world} with zero=2")  # fmt: skip
