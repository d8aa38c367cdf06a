"""`Import`: somebody else's model, so that it can be asked, measured, served and trained on as if it had been trained here.

    model/           config.json, model.safetensors
    tokenizer/       tokenizer.json
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.core.units import human_count
from bloomery.models import ModelConfig, write_model
from bloomery.stages.adapted import Adapted, AdapterFolder
from bloomery.stages.init import Hub
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.tokenizer import LoadTokenizer, load_tokenizer
from bloomery.stages.trained import Trained
from bloomery.store import Workspace


class Import(Trained):
    """A model in a Hugging Face folder, of any family that we have, as it is; or one with an adapter of the `peft` library taken into its
    weights. Its artifact is as a training's.

    Example:
        >>> Import(model=Hub(path="llama"), tokenizer=LoadTokenizer(path="llama"))
        >>> Import(model=Adapted(adapter=AdapterFolder(path="tuned"), init=Hub(path="llama")), tokenizer=LoadTokenizer(path="llama"))
    """

    model: Hub | Adapted
    """The folder, and an adapter on it."""
    tokenizer: LoadTokenizer
    """Its tokenizer."""

    def check(self) -> None:
        if isinstance(self.model, Adapted) and not isinstance(self.model.adapter, AdapterFolder):
            raise self.refuse("model", f"has an adapter that was trained here; take {self.model.adapter.reference} itself")

    @property
    def architecture(self) -> ModelConfig | None:
        return self.model.architecture

    @property
    def vocabulary(self) -> LoadTokenizer:
        return self.tokenizer

    def estimate(self) -> str:
        known = self.architecture
        return "" if known is None else f"{known.kind()} of {human_count(known.n_params)} parameters"

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        config, fill = self.model.load(inputs, seed=0)
        model = config.build(seed=0)
        parameters = dict(model.named_parameters())

        def pour(name: str, whole: Tensor) -> None:
            with torch.no_grad():
                parameters[name].copy_(whole)

        fill(pour)
        write_model(workspace.path / "model", config, model)
        tokenizer = load_tokenizer(inputs[self.tokenizer])
        tokenizer.save(workspace.path / "tokenizer" / "tokenizer.json")
        if alien := [token for i, token in tokenizer.controls.items() if i >= config.vocab_size]:
            context.say(f"{self.reference}: the model has no vectors for {', '.join(alien)}, so that conversations cannot be put to it; give "
                        "tokens of its own those roles, or have it go on with texts as they stand (--raw)")  # fmt: skip
        if tokenizer.vocab_size - len(alien) > config.vocab_size:
            raise ConfigError(f"Import.tokenizer has {tokenizer.vocab_size - len(alien)} tokens, and the model has vectors for "
                              f"{config.vocab_size}; they belong to different models")  # fmt: skip
        context.say(f"{self.reference}: {self.estimate()}, {tokenizer.vocab_size} tokens")
        return {"parameters": config.n_params, "architecture": config.kind(), "vocab_size": tokenizer.vocab_size}
