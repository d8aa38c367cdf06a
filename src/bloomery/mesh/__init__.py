"""Ranks: how they are laid out, what each holds, and how they talk. The only room that knows torch.distributed."""

from bloomery.mesh.layout import AXES, Layout

__all__ = ["AXES", "Layout"]
