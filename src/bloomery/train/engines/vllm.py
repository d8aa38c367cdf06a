"""`VLLMEngine`: a vLLM server writes.

    VLLM_SERVER_DEV_MODE=1 vllm serve FOLDER --served-model-name policy --logprobs-mode processed_logprobs

FOLDER is any export of the policy's architecture (`bloomery export`). vLLM reads weights from a folder that it has to see, too. In its mode for
developers it does so for whoever reaches it: it belongs on this machine, or in a network of one's own.

Source: vLLM's documentation, "RLHF" and "vllm serve"; the answers of its version 0.32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from bloomery.core.errors import ConfigError, ResourceError
from bloomery.generate import Access, NotThereError, Random, Request, again
from bloomery.models import ExportableConfig, save_hub
from bloomery.store.files import sha256_of
from bloomery.train.engines.engine import Reach, Wanted
from bloomery.train.engines.remote import RemoteEngine
from bloomery.train.engines.weights import writing_weights
from bloomery.train.state import TrainState

NEVER = -100.0  # what is added to logits of ids that no token has


class VLLMEngine(RemoteEngine):
    """A vLLM server, asked for ids and seeds of its own, and told to read the policy's weights from a folder."""

    logprobs: Literal["processed", "raw"] = "processed"
    """Its --logprobs-mode: of what is drawn from; or of the model, as vLLM has it unless told, which is the same at a temperature of 1 only."""

    def lay(self, state: TrainState, reach: Reach) -> str:
        config, weights = writing_weights(state.model)
        if not isinstance(config, ExportableConfig):
            raise ConfigError(f"Train.rollout.engine: a {config.kind()} has no names that vLLM knows; take BloomeryEngine() or OwnEngine()")
        with torch.device("meta"):
            model = config.skeleton()
        model.load_state_dict(weights, strict=False, assign=True)
        save_hub(model, config, reach.folder)
        digests = [sha256_of(path) for path in sorted(reach.folder.glob("*.safetensors"))]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def renew(self, url: str, version: str, reach: Reach) -> None:
        told = {"method": "reload_weights", "kwargs": {"weights_path": str(reach.folder.resolve())}}
        try:
            self._developer("POST", url, "/collective_rpc", told, reach.access)
            emptied = self._developer("POST", url, "/reset_prefix_cache", None, reach.access)
        except NotThereError:
            raise ConfigError(f"--engine-url {url} is no vLLM server that takes weights; start it with VLLM_SERVER_DEV_MODE=1") from None
        if not (isinstance(emptied, Mapping) and emptied.get("success")):
            raise ResourceError(f"--engine-url {url} keeps what it has read with older weights, as others have it write; have it alone")
        try:
            self._developer("POST", url, "/update_weight_version", {"new_version": version}, reach.access)
        except NotThereError:
            return  # an older one, of which `version` is None

    def version(self, url: str, access: Access) -> str | None:
        try:
            plain = self._developer("GET", url, "/weight_info", None, access)
        except NotThereError:
            return None
        return str(plain["weight_version"])

    def request(self, prompt: Sequence[int], most: int, seed: int, wanted: Wanted) -> dict[str, Any]:
        sampler = wanted.sampler
        body: dict[str, Any] = {
            "prompt": list(prompt), "max_tokens": most, "seed": seed, "logprobs": 0, "stop_token_ids": [wanted.ends],
            "temperature": sampler.temperature, "top_p": sampler.top_p, "min_p": sampler.min_p,
        }  # fmt: skip
        if sampler.top_k is not None:
            body["top_k"] = sampler.top_k
        if wanted.nameless and self.logprobs == "raw":
            raise self.refuse("logprobs", f"counts {len(wanted.nameless)} ids that no token has, which are never drawn; start the server with "
                              "--logprobs-mode processed_logprobs, and say 'processed'")  # fmt: skip
        if wanted.nameless:
            body["logit_bias"] = {str(token): NEVER for token in wanted.nameless}
        return body

    def check_sampler(self, sampler: Random) -> None:
        if sampler.typical_p < 1:
            raise ConfigError(f"Train.rollout.sampler.typical_p={sampler.typical_p:g} is nothing that vLLM knows; leave it at 1, or take "
                              "engine=BloomeryEngine()")  # fmt: skip
        if self.logprobs == "raw" and sampler.replace(temperature=1.0) != sampler:
            raise self.refuse("logprobs", f"is of the model, and Train.rollout.sampler draws at temperature={sampler.temperature:g}; start the "
                              "server with --logprobs-mode processed_logprobs, and say 'processed'")  # fmt: skip

    def _developer(self, method: Literal["GET", "POST"], url: str, path: str, body: Mapping[str, Any] | None, access: Access) -> Any:
        """What the part of the server that is for developers answers; it is beside "/v1"."""
        root = url.rstrip("/").removesuffix("/v1")
        return again(Request(method, root, path, body), lambda plain: plain, access, address="--engine-url")[0]
