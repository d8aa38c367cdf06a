"""Adapters: little that is trained in place of a whole model. One file each: its value, its modules, its source."""

from bloomery.nn.adapters.adapter import Adapter, added, disabled, merge, only, shells, unmerge
from bloomery.nn.adapters.bottleneck import Bottleneck
from bloomery.nn.adapters.dora import DoRA
from bloomery.nn.adapters.lora import LoRA
from bloomery.nn.adapters.p_tuning import PTuning
from bloomery.nn.adapters.prefix_tuning import PrefixTuning
from bloomery.nn.adapters.prompt_tuning import PromptTuning
from bloomery.nn.adapters.qlora import QLoRA
from bloomery.nn.adapters.quantised import Int8, Nf4
from bloomery.nn.adapters.rslora import RsLoRA

__all__ = [
    "Adapter", "Bottleneck", "DoRA", "Int8", "LoRA", "Nf4", "PTuning", "PrefixTuning", "PromptTuning", "QLoRA", "RsLoRA", "added", "disabled",
    "merge", "only", "shells", "unmerge",
]
