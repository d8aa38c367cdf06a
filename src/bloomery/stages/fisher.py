"""`Fisher`: how much each weight of a trained model matters to a corpus; what `EWC` holds on to.

    fisher.safetensors    F ≥ 0 of every weight, by canonical name, per token that is learnt
    fisher.json           how it is spread over the layers
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from safetensors import safe_open
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.core.units import Tokens, human_count
from bloomery.data import Fit, Packed, TokenShards
from bloomery.data.batch import Batch
from bloomery.models import read_model
from bloomery.models.tensor_file import in_order, kinds_of, write_tensors
from bloomery.nn.init import Pour
from bloomery.objectives import Importance
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.trained import Trained
from bloomery.store import Artifact, Workspace, write_json
from bloomery.store.files import atomic_file
from bloomery.train.fisher import FisherEstimator, Sampled, fisher
from bloomery.train.spreading import Fill

FILE = "fisher.safetensors"


class Fisher(Stage, Importance):
    """Measures the diagonal of the Fisher information of a model on a corpus that it has learnt.

    Over several tasks it adds up: F ← decay · F_before + F, each per token, so that one penalty holds all of them.

    Example:
        >>> farm = Fisher(name="farm", model=base, tokens=farm_talks)
        >>> Train(init=Continue(base=base), objective=CausalLM() + EWC(fisher=farm, strength=100.0), …)

    Source: Kirkpatrick et al. (2017), arXiv 1612.00796; adding up: Huszár (2018), PNAS 115(11), with the decay of Schwarz et al. (2018),
    arXiv 1805.06370.
    """

    model: Trained
    """Whose weights."""
    tokens: Tokenize
    """What was learnt: of conversations, the answers count."""
    estimator: FisherEstimator = Sampled()
    """`Exact()`, `Sampled(draws=…)` or `Empirical()`."""
    examples: Annotated[int, Gt(0)] = 256
    """Documents to measure on, at most."""
    max_seq_len: Tokens = 512
    """Tokens of each that are read, at most."""
    before: Fisher | None = None
    """That of earlier tasks."""
    decay: Annotated[float, Gt(0), Le(1)] = 1.0
    """What is left of it."""
    seed: Annotated[int, Ge(0)] = 0
    """Of which documents, and of what is drawn."""

    def check(self) -> None:
        if self.tokens.tokenizer != self.model.vocabulary:
            raise ConfigError(f"Fisher.tokens is encoded with {self.tokens.tokenizer.reference}, and Fisher.model was trained with "
                              f"{self.model.vocabulary.reference}; use its tokenizer")  # fmt: skip
        if self.before is None and self.decay != 1.0:
            raise self.refuse("decay", "is of an earlier Fisher information, and there is none; give before=Fisher(…), or leave it out")

    @property
    def measured_on(self) -> Trained:
        return self.model

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        config, model = read_model(inputs[self.model].path / "model")
        model.to(context.device)
        shards, time = TokenShards.open(inputs[self.tokens]), min(self.max_seq_len, config.max_seq_len)
        examples = Packed(shards, Fit(window=1), time=time, seed=self.seed)
        found, weight = fisher(model, self._rows(examples, context), self.estimator, self.seed)
        if self.before is not None:
            earlier: dict[str, Tensor] = {}
            self.before.fill(inputs[self.before])(earlier.__setitem__)
            for name, old in earlier.items():
                found[name].add_(old.to(found[name]), alpha=self.decay)
        kinds = kinds_of(list(found.items()))
        with atomic_file(workspace.path / FILE) as file:
            write_tensors(file, kinds, (found[name] for name in in_order(kinds)), {"format": "pt"})
        means = {name: float(value.mean()) for name, value in found.items()}
        write_json(workspace.path / "fisher.json", dict(sorted(means.items(), key=lambda pair: -pair[1])))
        total, size = sum(float(value.sum()) for value in found.values()), sum(value.numel() for value in found.values())
        context.say(f"{self.reference}: {human_count(weight)} tokens of {self.tokens.name}; mean {total / size:.3g}, most in "
                    f"{max(means, key=means.__getitem__)}")  # fmt: skip
        return {"tokens": weight, "sum": total, "mean": total / size}

    def fill(self, artifact: Artifact) -> Fill:
        """What tells the numbers that this stage left."""
        path = artifact.checked(FILE)

        def tell(pour: Pour) -> None:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 (it is no dict)
                    pour(name, file.get_tensor(name))

        return tell

    def _rows(self, examples: Packed, context: RunContext) -> Iterator[Batch]:
        """A document a row, without its padding."""
        for number, row in enumerate(examples.once(1)):
            if number == self.examples:
                return
            context.progress(f"{self.reference}: {number} of {self.examples} examples")
            yield trimmed(row).to(context.device)


def trimmed(row: Batch) -> Batch:
    """A row without the padding behind its documents."""
    assert row.layout.segments is not None
    end = max(1, int((row.layout.segments > 0).sum()))
    part = (slice(None), slice(0, end))
    layout = type(row.layout).packed(row.layout.segments[part])
    return Batch(row.tokens[part], row.targets[part], row.loss_weight[part], layout, row.first_row)
