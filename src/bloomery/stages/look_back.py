"""What the objective of a training looks back at, opened: frozen models, anchors of weights and what is known of each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.mesh import Holding, Mesh
from bloomery.models import Model, ModelConfig
from bloomery.objectives import Frozen, Importance, Objective
from bloomery.objectives.frozen import check_same_ids
from bloomery.optim.groups import Member
from bloomery.optim.trainable import Trainable
from bloomery.stages.fisher import Fisher
from bloomery.stages.init import Continue, Hub
from bloomery.stages.stage import Inputs, Stage
from bloomery.stages.trained import Trained
from bloomery.train.beside import Beside, pull_of
from bloomery.train.spreading import Fill, spread_model


def check_look_back(objective: Objective, tokenizer: Stage, model: ModelConfig | None, also: Sequence[Frozen] = ()) -> None:
    """Raises `ConfigError` where the same ids do not mean the same to a training and to what its objective looks back at.

    Args:
        objective: of the training.
        tokenizer: of the training.
        model: of the training, where it is known.
        also: further models that are asked, by the source of the rows.
    """
    own = (*objective.frozen(), *(penalty.towards for _, penalty in objective.penalties()))
    for one in (*own, *also):
        who = f"Train.{'objective' if one in own else 'rollout'} looks at"
        if isinstance(one, Trained) and one.vocabulary != tokenizer:
            raise ConfigError(f"{who} {one.reference}, which was trained with {one.vocabulary.reference}, not with "
                              f"Train.tokenizer={tokenizer.reference}; let the same ids mean the same")  # fmt: skip
        check_same_ids(who, one.architecture, model)


def beside_of(
    objective: Objective, inputs: Inputs, model: Model, holding: Holding, config: ModelConfig, also: Sequence[Frozen] = ()
) -> Beside:  # fmt: skip
    """All that an objective looks back at, as this rank holds it.

    Args:
        objective: of the training.
        inputs: with the stages among the objective's fields.
        model: that is trained.
        holding: of it.
        config: of it.
        also: further models that are asked, by the source of the rows.
    """
    pulls = []
    for factor, penalty in objective.penalties():
        importance = None if penalty.importance is None else importance_of(penalty.importance, inputs)
        pulls.append(pull_of(factor, penalty, model, holding, told(penalty.towards, inputs)[1], importance))
    return Beside(frozen_models((*objective.frozen(), *also), inputs, holding.mesh, config, unchanging(holding, config)), pulls)


def frozen_models(
    frozen: Sequence[Frozen], inputs: Inputs, mesh: Mesh, config: ModelConfig, known: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, Model]:  # fmt: skip
    """The models that are asked beside the one that is trained, each spread over the ranks as that one is, in the state in which models are
    asked, and without gradients.

    Args:
        frozen: which.
        inputs: with the stages that they are of.
        mesh: the ranks.
        config: of the model that is trained.
        known: weights that are there and that nothing changes, by name; those that a model has alike are held once. So the reference of a
            policy that an adapter is trained on is the policy without it, and takes no memory.

    Raises:
        ConfigError: one has another vocabulary.
    """
    models = {}
    for one in {one.address: one for one in frozen}.values():
        theirs, fill = told(one, inputs)
        check_same_ids("Train looks at", theirs, config)
        spread = spread_model(theirs, mesh, fill, Nothing())
        for name, held in spread.holding.parameters.items():
            other = known.get(below_heads(name))
            if other is not None and held.parameter is held.local and other.dtype == held.local.dtype and torch.equal(other, held.local):
                held.parameter.data = other
        models[one.address] = spread.model.eval()
    return models


def unchanging(holding: Holding, config: ModelConfig) -> dict[str, Tensor]:
    """Of a model that is trained, the weights that are not, as this rank holds them whole.

    Args:
        holding: of it.
        config: of it.
    """
    with torch.device("meta"):
        weights = {name for name, parameter in config.skeleton().named_parameters() if parameter.requires_grad} | config.fixed
    return {
        below_heads(name): held.local.data for name, held in holding.parameters.items()
        if name in weights and not held.parameter.requires_grad and held.parameter is held.local
    }  # fmt: skip


def below_heads(name: str) -> str:
    """A weight's name in the model that heads for tasks stand on."""
    return name.removeprefix("base.")


class Nothing(Trainable):
    """No parameter takes a gradient."""

    def names(self, everything: Sequence[Member]) -> frozenset[str]:
        return frozenset()

    def freeze(self, model: nn.Module) -> None:
        model.requires_grad_(requires_grad=False)


def told(frozen: Frozen, inputs: Inputs) -> tuple[ModelConfig, Fill]:
    """The config of such a model, and what tells its weights."""
    init = Continue(base=frozen) if isinstance(frozen, Trained) else frozen
    assert isinstance(init, Continue | Hub), "a Trained or a Hub is what a model comes from"
    return init.load(inputs, seed=0)


def importance_of(importance: Importance, inputs: Inputs) -> Fill:
    """What tells the importance of each number of the weights."""
    assert isinstance(importance, Fisher)
    return importance.fill(inputs[importance])
