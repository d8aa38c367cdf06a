"""Which activations are kept for the backward pass, and which are computed again: less memory for more operations, the same numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from bloomery.core.errors import ConfigError
from bloomery.core.units import bytes_of
from bloomery.mesh import Layout
from bloomery.nn.block import Block
from bloomery.nn.products import ONEDNN
from bloomery.planning.anatomy import Anatomy, Keeps
from bloomery.planning.trace import Stretch, forward_of


@dataclass(frozen=True)
class Recompute:
    """What is computed again, block by block.

    Attributes:
        kind: "none" keeps everything; "full" keeps what enters a block; "selective" also keeps the results of its matrix products and
            attention, which are most of the work; "budget" recomputes as few blocks as keep the activations within `budget`.
        budget: bytes for the activations of one micro-batch.

    Source: Chen et al. (2016), arXiv 1604.06174; what to keep selectively as in Korthikanti et al. (2022), arXiv 2205.05198, section 5, and
    torchtitan.
    """

    kind: Literal["none", "full", "selective", "budget"] = "none"
    budget: int = 0

    @property
    def keeps(self) -> Keeps:
        """What blocks keep that are not computed again whole."""
        return "products" if self.kind == "selective" else "all"

    @classmethod
    def parse(cls, text: str) -> Recompute:
        """From "none", "full", "selective", or a size: "8GiB"."""
        if text in ("none", "full", "selective"):
            return cls(text)  # pyrefly: ignore[bad-argument-type] (it is one of these)
        if not re.fullmatch(r"\d+(?:\.\d+)?\s*[KMG]iB", text):
            raise ConfigError(f"--recompute {text!r} is neither none, full, selective nor a size; write 8GiB, say")
        return cls("budget", round(bytes_of(text)))


def recompute(model: nn.Module, what: Recompute, measure: Callable[[], int] | None = None) -> int:
    """Has blocks of a model compute activations again in the backward pass.

    Args:
        model: whose blocks are changed in place.
        what: to do.
        measure: bytes that a micro-batch keeps as the model stands now; None where that cannot be known.

    Returns:
        How many blocks do so.

    Raises:
        ConfigError: even if all did, it would be more than the budget; or it cannot be known.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    if what.kind == "none":
        return 0
    if what.kind != "budget":
        for block in blocks:
            _again(block, _keep_products if what.kind == "selective" else None)
        return len(blocks)
    if measure is None:
        raise ConfigError("--recompute: the stages of a pipeline keep activations of several micro-batches, which no size is told for; take "
                          "full or selective")  # fmt: skip
    if (kept := measure()) <= what.budget:
        return 0
    plain = [block.forward for block in blocks]
    for block in blocks:
        _again(block, None)
    needed = blocks_needed(len(blocks), kept, measure(), what.budget)
    for block, forward in list(zip(blocks, plain, strict=True))[needed:]:
        block.forward = forward
    return needed


def blocks_needed(blocks: int, kept: int, least: int, budget: int) -> int:
    """How many of a model's blocks have to be computed again for a micro-batch to keep no more than a budget.

    Args:
        blocks: of the model.
        kept: bytes that a micro-batch keeps if none is.
        least: the same if all are.
        budget: bytes.

    Raises:
        ConfigError: not even that would do.
    """
    if kept <= budget:
        return 0
    if least > budget:
        raise ConfigError(f"--recompute: a micro-batch keeps {kept} bytes, and {least} with all {blocks} blocks recomputed, which is more "
                          f"than the budget of {budget}; lower --micro-batch, or give {least}")  # fmt: skip
    return ceil(blocks * (kept - budget) / (kept - least))


def blocks_again(anatomy: Anatomy, layout: Layout, what: Recompute) -> int:
    """How many blocks of a model will be computed again whole, foretold: the first ones.

    Args:
        anatomy: of the training, in its micro-batches, whose blocks keep all.
        layout: of the ranks.
        what: to do.

    Raises:
        ConfigError: even if all were, it would be more than the budget.
    """
    if what.kind != "budget":
        return len(anatomy.blocks) if what.kind == "full" else 0

    def kept(stretches: Iterable[Stretch]) -> int:
        return round(forward_of(stretches).left.total / (layout.context * layout.tensor))

    most, least = kept(anatomy.first), kept(stretch.recomputed if stretch.block else stretch for stretch in anatomy.first)
    return blocks_needed(len(anatomy.blocks), most, least, what.budget)


def _again(block: Block, contexts: Callable[[], Any] | None) -> None:
    options: dict[str, Any] = {} if contexts is None else {"context_fn": contexts}
    # Nothing in a block draws random numbers, so that no state of theirs has to be kept.
    block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False, **options)


def _keep_products() -> Any:
    # A low-rank change is added into a product where that lies. Both are kept, as the same memory, and neither is done again: allowed.
    return create_selective_checkpoint_contexts(_policy, allow_cache_entry_mutation=True)


def _policy(context: Any, operation: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
    aten = torch.ops.aten
    products = (
        aten.mm.default, aten.addmm.default, aten.addmm_.default, aten.bmm.default, aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention.default, aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default, *([] if ONEDNN is None else [ONEDNN.default]),
    )  # fmt: skip
    return CheckpointPolicy.MUST_SAVE if operation in products else CheckpointPolicy.PREFER_RECOMPUTE
