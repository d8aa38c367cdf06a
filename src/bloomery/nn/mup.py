"""µP: a parametrisation in which the best learning rate of a narrow model is that of a wide one."""

from __future__ import annotations

from math import isclose, sqrt

from pydantic import Field

from bloomery.core.errors import ConfigError
from bloomery.nn.attention import GroupedHeadsConfig
from bloomery.nn.feedforward import GatedConfig, PlainConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.init import FanInInit, Stack
from bloomery.nn.linear import Use


class MuPInit(FanInInit):
    """Initialisation, learning rates and scales that go with the width, so that what a step changes does not; see `mup`.

        with m = d_model / base_width     hidden matrices      embeddings, biases, norms     head
        standard deviation                gain / √fan_in       constant                      constant
        learning rate under Adam          η / m                η                             η
        factor                            –                    –                             1 / m on what it reads

    and scores of attention are scaled by √base_head_dim / head_dim. At the base width, all is as in any other model. Rates are read off
    the model by the optimisers: nothing but the width needs to be changed. All widths (d_model, d_ff, heads or head_dim) grow alike.

    Source: Yang et al. (2022), arXiv 2203.03466, table 8 (the form in which head and embedding may be tied) and definition 4.1. Departures:
    1/√(2·n_layers) on what writes to the residual stream; ε of Adam stays as it is.
    """

    base_width: int = Field(gt=0)
    """d_model at which the learning rates and scales are those that are given."""
    base_head_dim: int = Field(gt=0)
    """Features per head at which scores are scaled by 1/√head_dim."""

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        return self.embedding if use is Use.HEAD else super().std_of(use, fan_in, fan_out, n_layers)

    def hidden_rate(self, d_model: int) -> float:
        return self.base_width / d_model

    def head_scale(self, d_model: int) -> float:
        """Factor on what the head reads."""
        return self.base_width / d_model

    def score_scale(self, head_dim: int) -> float:
        """Factor on the scores of attention."""
        return sqrt(self.base_head_dim) / head_dim

    def check_model(self, model: Stack) -> None:
        for mixer in model.mixers:
            if not isinstance(mixer, GroupedHeadsConfig):
                raise ConfigError(f"init=MuPInit has no rule for mixers={mixer.kind()}; take AttentionConfig, or FanInInit()")
            width = mixer.width(model.d_model)
            self._want("mixers.scale", mixer.score_scale(width), self.score_scale(width))
        for feed_forward in model.feed_forwards:
            if not isinstance(feed_forward, GatedConfig | PlainConfig | None):
                raise ConfigError(f"init=MuPInit has no rule for feed_forwards={feed_forward.kind()}; take GatedConfig, or FanInInit()")
        if not isinstance(model.head, TiedConfig | UntiedConfig):
            raise ConfigError(f"init=MuPInit has no rule for head={model.head.kind()}; take TiedConfig, or FanInInit()")
        if model.d_embedding != model.d_model:
            raise ConfigError(f"init=MuPInit has no rule for d_embedding={model.d_embedding} beside d_model={model.d_model}; leave it out")
        self._want("head.scale", model.head.scale, self.head_scale(model.d_model))

    def _want(self, field: str, found: float, wanted: float) -> None:
        if not isclose(found, wanted, rel_tol=1e-6):
            raise ConfigError(f"{field}={found:.6g} is not the {wanted:.6g} that init={self} is made for; make the model by mup(model, init)")
