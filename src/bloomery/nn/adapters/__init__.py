"""Adapters: little that is trained in place of a whole model. One file each: its value, its modules, its source."""

from bloomery.nn.adapters.adapter import Adapter, added, disabled, merge, only, shells, unmerge
from bloomery.nn.adapters.dora import DoRA
from bloomery.nn.adapters.lora import LoRA
from bloomery.nn.adapters.rslora import RsLoRA

__all__ = ["Adapter", "DoRA", "LoRA", "RsLoRA", "added", "disabled", "merge", "only", "shells", "unmerge"]
