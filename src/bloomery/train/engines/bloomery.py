"""`BloomeryEngine`: our own server writes: `bloomery serve MODEL --takes-weights`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.generate import Access, NotThereError, Request, again
from bloomery.models.tensor_file import in_order, kinds_of, write_tensors
from bloomery.store.files import atomic_file
from bloomery.train.engines.engine import Reach, Wanted
from bloomery.train.engines.remote import RemoteEngine
from bloomery.train.engines.weights import writing_weights
from bloomery.train.state import TrainState

FILE = "policy.safetensors"


class BloomeryEngine(RemoteEngine):
    """`bloomery serve MODEL --takes-weights --name policy`, of any model of the policy's architecture, on this machine or another.

    Weights go to it over the connection. It lets texts that are under way come to their end before it takes them, and keeps nothing of what
    it has read with the old ones. Log μ is of what is drawn from, so that any sampler can be taken.
    """

    def lay(self, state: TrainState, reach: Reach) -> str:
        _, weights = writing_weights(state.model)
        kinds = kinds_of(list(weights.items()))
        reach.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(reach.folder / FILE) as file:
            return write_tensors(file, kinds, (weights[name] for name in in_order(kinds)))

    def renew(self, url: str, version: str, reach: Reach) -> None:
        request = Request("PUT", url, f"/weights/{version}", reach.folder / FILE)
        again(request, lambda plain: plain["version"], reach.access, address="--engine-url")

    def version(self, url: str, access: Access) -> str | None:
        try:
            return again(Request("GET", url, "/weights"), lambda plain: str(plain["version"]), access, address="--engine-url")[0]
        except NotThereError:
            raise ConfigError(f"--engine-url {url} takes no weights; start it with bloomery serve MODEL --takes-weights") from None

    def request(self, prompt: Sequence[int], most: int, seed: int, wanted: Wanted) -> dict[str, Any]:
        sampler = wanted.sampler
        return {
            "prompt": list(prompt), "max_tokens": most, "seed": seed, "logprobs": 0, "logprobs_mode": "processed_logprobs",
            "temperature": sampler.temperature, "top_p": sampler.top_p, "min_p": sampler.min_p, "typical_p": sampler.typical_p,
        } | ({} if sampler.top_k is None else {"top_k": sampler.top_k})  # fmt: skip
