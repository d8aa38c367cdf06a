"""`CompiledStep`: one token more of each row, read by code that torch.compile writes: no Python between the products, and fewer of the steps
between them go to memory and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import torch
from annotated_types import Gt
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.model import Model, causal
from bloomery.nn.cache import Cache
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.part import Part
from bloomery.nn.seen import Seen

M = TypeVar("M", bound=Model)
REACH = 64  # places: as many of the past as a multiple of it are looked at, and what is not there is masked


class CompiledStep(Part):
    """Code for one token of each row. It is written at the first step, and once or twice more as rows and their lengths turn out to change,
    which takes from some seconds to minutes; whatever else the model reads is read as before.
    """

    rows: Annotated[int, Gt(0)] | None = None
    """Rows at most that are read so; None sets no bound."""

    def applied(self, model: M) -> M:
        """The model itself, changed.

        Raises:
            ConfigError: it keeps something else than what it has read, by place.
        """
        blank = causal(model).new_cache(1, 1)
        if model.config.reads_passage or not blank.by_place or any(slots.capacity > 1 for slots in blank.slots):
            raise ConfigError(f"CompiledStep is for decoders that keep nothing but what they have read of a text, by place, and this "
                              f"{model.config.kind()} keeps states, a passage or an adapter's tokens; leave it out")  # fmt: skip
        read, unembed = model.features, model.unembed
        step = torch.compile(lambda tokens, positions, cache, reach: read(tokens, Step(positions, reach=reach), cache))
        scores = torch.compile(unembed)

        def features(
            tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
            passage: Passage | None = None,
        ) -> Float[Tensor, "batch time d_features"]:
            one_more = tokens.shape[1] == 1 and self._few(len(tokens)) and layout.segments is None and layout.prefix is None
            if cache is None or seen is not None or not one_more:
                return read(tokens, layout, cache, seen, passage)
            reach = min(-(-layout.past // REACH) * REACH, *(slots.capacity for slots in cache.slots))
            return step(tokens, layout.positions, cache, reach)

        def logits(features: Float[Tensor, "*batch d_features"]) -> Float[Tensor, "*batch vocab"]:
            return (scores if self._few(features.shape[:-1].numel()) else unembed)(features)

        changed: Any = model
        changed.features, changed.unembed = features, logits
        return model

    def _few(self, rows: int) -> bool:
        return self.rows is None or rows <= self.rows


@dataclass(frozen=True, eq=False)
class Step(SequenceLayout):
    """Places of new tokens that look at so much of a cache as they are told, so that nobody needs to ask where they stand.

    Attributes:
        reach: slots that are read; more than any of the tokens needs.
    """

    reach: int = 0

    @property
    def past(self) -> int:
        return self.reach

    @property
    def past_mask(self) -> Bool[Tensor, "batch 1 time past"]:
        return (torch.arange(self.reach, device=self.positions.device) <= self.positions[:, :, None])[:, None]
