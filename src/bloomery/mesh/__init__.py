"""Ranks: how they are laid out, what each holds, and how they talk. The only room that knows torch.distributed."""

from bloomery.mesh.held import Held, Holding
from bloomery.mesh.layout import AXES, Layout
from bloomery.mesh.lookout import Lookout, Phase
from bloomery.mesh.mesh import ALONE, Axis, Mesh, ranks_started
from bloomery.mesh.part import Part
from bloomery.mesh.pipeline import Pipeline
from bloomery.mesh.spread import accumulate, settle, spread

__all__ = [
    "ALONE", "AXES", "Axis", "Held", "Holding", "Layout", "Lookout", "Mesh", "Part", "Phase", "Pipeline", "accumulate", "ranks_started",
    "settle", "spread",
]
