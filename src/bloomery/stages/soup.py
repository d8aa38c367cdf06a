"""`Soup` and `Interpolate`: one model from several trained ones, by averaging their weights.

    model/           config.json, model.safetensors
    tokenizer/       tokenizer.json
    soup.json        what went in, and what each step of a greedy soup measured
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.units import Tokens
from bloomery.data import TokenShards
from bloomery.mesh import ALONE
from bloomery.models import Model, ModelConfig, read_model, write_model
from bloomery.models.blend import check_alike, pour_blend
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import LoadTokenizer, TrainTokenizer
from bloomery.stages.trained import Trained, tokenizer_of
from bloomery.store import Workspace, write_bytes, write_json
from bloomery.train.suites import answered
from bloomery.train.watch import held_out

ROWS = 16  # per forward pass, of what is measured


class Blend(Trained):
    """What both have in common: they leave one model of several."""

    @property
    def ingredients(self) -> tuple[Trained, ...]:
        """The models, of one architecture and one tokenizer."""
        raise NotImplementedError

    def check(self) -> None:
        check_alike([one.architecture for one in self.ingredients], f"{self.kind()}'s models")
        for one in self.ingredients:
            if one.vocabulary != self.vocabulary:
                raise ConfigError(f"{self.kind()} has {one.reference}, trained with {one.vocabulary.reference}, beside one of "
                                  f"{self.vocabulary.reference}; only models of one tokenizer have a mean")  # fmt: skip

    @property
    def architecture(self) -> ModelConfig | None:
        return next((known for one in self.ingredients if (known := one.architecture) is not None), None)

    @property
    def vocabulary(self) -> TrainTokenizer | LoadTokenizer:
        return self.ingredients[0].vocabulary

    def read(self, inputs: Inputs) -> tuple[ModelConfig, list[Model]]:
        """The models, which turn out to be of one architecture."""
        read = [read_model(inputs[one].path / "model") for one in self.ingredients]
        check_alike([config for config, _ in read], f"{self.reference}'s models")
        return read[0][0], [model for _, model in read]

    def leave(self, workspace: Workspace, inputs: Inputs, config: ModelConfig, model: Model) -> None:
        """Writes the model and the tokenizer."""
        write_model(workspace.path / "model", config, model)
        tokenizer = inputs[self.ingredients[0]].checked("tokenizer/tokenizer.json")
        write_bytes(workspace.path / "tokenizer" / "tokenizer.json", tokenizer.read_bytes())


class Interpolate(Blend):
    """(1 − α)·θ_base + α·θ_tuned: between what a model knew and what it has learnt.

    Source: Wortsman et al. (2021), WiSE-FT, arXiv 2109.01903, section 3.
    """

    base: Trained
    """Before the fine-tuning: α = 0."""
    tuned: Trained
    """After it: α = 1."""
    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    """α."""

    @property
    def ingredients(self) -> tuple[Trained, ...]:
        return (self.base, self.tuned)

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        config, models = self.read(inputs)
        pour_blend(models[0], models, (1 - self.alpha, self.alpha))
        self.leave(workspace, inputs, config, models[0])
        return {"parameters": config.n_params, "alpha": self.alpha}


class Choice(Config):
    """Which models go into a soup."""


class Evenly(Choice):
    """All of them, each with the same share."""


class Greedily(Choice):
    """The best one first; then each of the others, the better ones first, stays in if the mean does not become worse by it.

    Judged by the answers that are right where the corpus is of conversations (`Chat()`), else by bits per byte.

    Source: Wortsman et al. (2022), Model soups, arXiv 2203.05482, recipe 1.
    """

    tokens: Tokenize
    """What models are measured on; none of them was trained on it."""
    most: Tokens = 65_536
    """Tokens to measure on, or answers, at most."""


class Soup(Blend):
    """The mean of the weights of several models that were tuned from one base: with other seeds, rates, or shares of data."""

    models: tuple[Trained, ...] = Field(min_length=2)
    """The models."""
    choice: Choice = Evenly()
    """`Evenly()` or `Greedily(tokens=…)`."""

    def check(self) -> None:
        super().check()
        if isinstance(self.choice, Greedily) and self.choice.tokens.tokenizer != self.vocabulary:
            raise ConfigError(f"Soup.choice measures on {self.choice.tokens.reference}, which is not encoded with the models' tokenizer "
                              f"{self.vocabulary.reference}; use it")  # fmt: skip

    @property
    def ingredients(self) -> tuple[Trained, ...]:
        return self.models

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        config, models = self.read(inputs)
        mean = config.build(seed=0)
        chosen, told = list(range(len(models))), list[dict[str, Any]]()
        if isinstance(self.choice, Greedily):
            chosen, told = self._greedily(self.choice, context, inputs, models, mean)
        pour_blend(mean, [models[i] for i in chosen], [1 / len(chosen)] * len(chosen))
        self.leave(workspace, inputs, config, mean)
        names = [self.models[i].reference for i in chosen]
        write_json(workspace.path / "soup.json", {"models": names, "measured": told})
        return {"parameters": config.n_params, "models": len(chosen)}

    def _greedily(
        self, choice: Greedily, context: RunContext, inputs: Inputs, models: list[Model], mean: Model
    ) -> tuple[list[int], list[dict[str, Any]]]:
        shards, told = TokenShards.open(inputs[choice.tokens]), list[dict[str, Any]]()
        tokenizer = tokenizer_of(inputs[self.models[0]])

        def score(those: list[int]) -> float:
            pour_blend(mean, [models[i] for i in those], [1 / len(those)] * len(those))
            mean.to(context.device)
            time = mean.config.max_seq_len
            if shards.masked:
                right, asked = answered(mean, shards, time=time, rows=ROWS, questions=choice.most, mesh=ALONE, device=context.device)
                value = right / max(1, asked)
            else:
                value = -held_out(mean, shards, tokenizer, time=time, tokens=choice.most, rows=ROWS, device=context.device)["bits_per_byte"]
            mean.cpu()
            told.append({"models": [self.models[i].reference for i in those], "score": value})
            return value

        alone = [score([i]) for i in range(len(models))]
        order = sorted(range(len(models)), key=lambda i: -alone[i])
        chosen, best = order[:1], alone[order[0]]
        for i in order[1:]:
            if (value := score([*chosen, i])) >= best:
                chosen, best = [*chosen, i], value
        return chosen, told
