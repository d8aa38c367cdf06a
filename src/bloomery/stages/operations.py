"""Operations of a training step as it will be: of what is trained, and of the models that are asked."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bloomery.models import AdaptedConfig, beneath
from bloomery.objectives import CausalLM
from bloomery.optim import Everything
from bloomery.planning.trace import without_memory
from bloomery.stages.anatomy import PLANS, Planned, micro_batch_of

OF_STEP = 3
"""Forward passes that a step comes to where all is trained."""


def flops_per_token(planned: Planned) -> float:
    """Operations of a step of a training, per token.

        config.flops_per_token · (those of a step as it is) / (those of a step that trains all weights) + Σ over models asked of a forward pass

    A weight that is not trained has no gradient to be computed, and what lies below the lowest that is, no backward pass at all. Both sides of
    the ratio are counted on a row without memory, product by product, whatever the model is made of. Where all is trained, it is 1.
    """
    bare, time = beneath(planned.config), planned.time
    whole = bare.flops_per_token(time)
    if isinstance(planned.config, AdaptedConfig) or not isinstance(planned.trainable, Everything):
        whole *= counted(planned) / counted(replace(planned, config=bare, trainable=Everything()))
    known = [one.architecture for one in planned.objective.frozen()]
    return whole + sum(config.flops_per_token(time) / OF_STEP for config in known if config is not None)


@lru_cache(maxsize=PLANS)
def counted(planned: Planned) -> float:
    """Operations of the products in a step of one row, but for those of models that are asked, and with all that is masked."""
    objective = CausalLM() if planned.objective.frozen() else planned.objective
    own = {torch.ops.bloomery.grouped_product: _product, torch.ops.bloomery.grouped_outer: _outer}
    with without_memory():
        _, _, loss = micro_batch_of(replace(planned, objective=objective), 1, planned.time, "all")
        with FlopCounterMode(display=False, custom_mapping=own) as counter, sdpa_kernel(SDPBackend.MATH):
            loss().backward()
    return counter.get_total_flops()


def _product(rows: torch.Size, matrices: torch.Size, *_: object, **__: object) -> int:
    return 2 * rows[0] * rows[1] * matrices[1]


def _outer(gradients: torch.Size, rows: torch.Size, *_: object, **__: object) -> int:
    return 2 * gradients[0] * gradients[1] * rows[1]
