"""What a policy should have expected to earn."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Gt

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Samples
from bloomery.data.tasks import RowTask
from bloomery.models import ModelConfig
from bloomery.models.ensemble import heads_by_name
from bloomery.models.heads import ValueConfig
from bloomery.nn.cross_entropy import exactly
from bloomery.objectives.objective import Reading
from bloomery.objectives.policy import OfPlaces, OfSamples


class ValueLoss(OfSamples):
    """½·max((V − R)², (V_clip − R)²),  V_clip = V_old + clip(V − V_old, −ε, ε): of a head for values, at each drawn token.

    Metric: `value_error`, (V − R)².

    Source: Schulman et al. (2017), PPO, arXiv 1707.06347; the clip is that of its code (Engstrom et al. 2020, arXiv 2005.12729, section 3).
    """

    looks_inside: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset({"returns", "values"})

    head: str = "value"
    """The policy's head for values."""
    clip: Annotated[float, Gt(0)] | None = 0.2
    """ε; None clips nothing."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        if not isinstance(heads_by_name(model).get(self.head), ValueConfig):
            raise ConfigError(f"ValueLoss.head={self.head!r} is no head for values of its {model.kind()}; take "
                              f"HeadsOn(…, heads=(ValueConfig(name={self.head!r}),), language_head=True)")  # fmt: skip

    def losses(self, reading: Reading, samples: Samples) -> tuple[OfPlaces, dict[str, torch.Tensor]]:
        assert samples.returns is not None, "asked for by `reads`"
        assert samples.values is not None, "asked for by `reads`"
        values = exactly(reading.scores(self.head)[:, :, 0])
        error = (values - samples.returns).square()
        if self.clip is None:
            return error / 2, {"value_error": error}
        held = samples.values + (values - samples.values).clamp(-self.clip, self.clip)
        return torch.maximum(error, (held - samples.returns).square()) / 2, {"value_error": error}
