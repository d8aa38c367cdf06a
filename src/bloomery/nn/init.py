"""Initialisation as a value: from which normal distribution each kind of matrix is drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import sqrt
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from bloomery.core.rng import derive_seed
from bloomery.nn.linear import Linear, Use
from bloomery.nn.part import Part

Pour = Callable[[str, Tensor], None]
"""Takes a parameter's name and its numbers."""
Fill = Callable[[Pour], None]
"""Tells each parameter of a whole model, by name, one after the other; in the same order on all ranks."""


@runtime_checkable
class Stack(Protocol):
    """What initialisations and placements of norms look at to tell whether they fit a model: some fields of its config."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def d_embedding(self) -> int:
        """Width of the embedding table."""
        ...

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        ...

    @property
    def init(self) -> WeightInit:
        """What fresh weights are drawn from."""
        ...

    @property
    def mixers(self) -> tuple[Part, ...]:
        """The different mixers."""
        ...

    @property
    def feed_forwards(self) -> tuple[Part | None, ...]:
        """The different feed-forward layers."""
        ...

    @property
    def norm(self) -> Part:
        """In the blocks."""
        ...

    @property
    def head(self) -> Part:
        """From features to predictions."""
        ...


class WeightInit(Part):
    """Standard deviations for the matrices of a model; their mean is 0, biases start at 0 and norm weights at 1."""

    wires: ClassVar[bool] = False
    """Whether `wire` changes anything."""

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        """For a matrix.

        Args:
            use: what it is for.
            fan_in: its inputs.
            fan_out: its outputs.
            n_layers: of the model.
        """
        if use is Use.EMBEDDING:
            return self.embedding_std(fan_in)
        return self.residual_std(fan_in, n_layers) if use.residual else self.matrix_std(fan_in)

    @abstractmethod
    def embedding_std(self, d_model: int) -> float:
        """For the rows of the embedding table (and of a head tied to it)."""

    @abstractmethod
    def matrix_std(self, fan_in: int) -> float:
        """For a matrix with `fan_in` inputs."""

    def residual_std(self, fan_in: int, n_layers: int) -> float:
        """For a matrix that writes to the residual stream.

        Smaller by √(2·n_layers), so that the variance of the stream after two writes per layer does not grow with depth.
        """
        return self.matrix_std(fan_in) / sqrt(2 * n_layers)

    def residual_factor(self, n_layers: int) -> float:
        """The factor on the residual stream that it is made for, which the placement of the norms must have as well."""
        return 1.0

    def hidden_rate(self, d_model: int) -> float:
        """Factor on the learning rate of hidden matrices under Adam, where the rate is to go with the width."""
        return 1.0

    def check_model(self, model: Stack) -> None:
        """Refuses a model that it does not fit, via `self.refuse`; called when the model's config is built."""

    def wire(self, embedding: Float[Tensor, "vocab d_model"], mixers: Sequence[Any], seed: int) -> None:
        """Changes weights in place once all are drawn; most initialisations change none.

        Args:
            embedding: the table.
            mixers: of the layers, the first one first.
            seed: of the model.
        """


class NormalInit(WeightInit):
    """One standard deviation for every matrix, less for those that write to the residual stream: that of GPT-2.

    Source: Radford et al. (2019), "Language Models are Unsupervised Multitask Learners", section 2.3.
    """

    std: float = Field(default=0.02, gt=0)
    """Standard deviation."""

    def embedding_std(self, d_model: int) -> float:
        return self.std

    def matrix_std(self, fan_in: int) -> float:
        return self.std


class FanInInit(WeightInit):
    """Standard deviation gain/√fan_in, so that the scale of activations does not depend on the width of the model.

    Source: LeCun et al. (1998), "Efficient BackProp", section 4.6.
    """

    gain: float = Field(default=1.0, gt=0)
    """Factor on 1/√fan_in."""
    embedding: float = Field(default=0.02, gt=0)
    """Standard deviation of the embedding table."""

    def embedding_std(self, d_model: int) -> float:
        return self.embedding

    def matrix_std(self, fan_in: int) -> float:
        return self.gain / sqrt(fan_in)


class Draw:
    """Draws the weights of one model: each parameter once, from a stream of its own, so that neither order nor global state matters.

    Args:
        model: its parameters' names are its canonical ones.
        init: the standard deviations.
        n_layers: of the model.
        seed: of the model.
        pour: told each parameter's name and numbers, one by one, where the model itself has no memory ("meta").
    """

    def __init__(self, model: nn.Module, init: WeightInit, n_layers: int, seed: int, pour: Pour | None = None) -> None:
        self.init, self.n_layers, self.seed, self.pour = init, n_layers, seed, pour
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._done: set[int] = set()

    def matrix(self, parameter: Tensor, uses: Sequence[Use], heights: Sequence[int] | None = None, fan_in: int | None = None) -> None:
        """Fills a matrix, or several stacked in its rows, in place.

        Args:
            parameter: (…, rows, columns); on the CPU.
            uses: of each matrix.
            heights: rows of each; None for one matrix.
            fan_in: inputs that an output is the sum of; None for the number of columns.
        """
        if not self._first_time(parameter):
            return
        columns = fan_in or parameter.shape[-1]
        heights = heights or (parameter.shape[-2],)
        stds = [self.init.std_of(use, columns, rows, self.n_layers) for use, rows in zip(uses, heights, strict=True)]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "init", self._names[id(parameter)]))
        with self._numbers_of(parameter) as numbers:
            if len(set(stds)) == 1:
                numbers.normal_(0.0, stds[0], generator=generator)
            else:
                for part, std in zip(numbers.split(tuple(heights), dim=-2), stds, strict=True):
                    part.normal_(0.0, std, generator=generator)

    def fill(self, parameter: Tensor, value: float) -> None:
        """Fills a parameter with one number, in place."""
        if self._first_time(parameter):
            with self._numbers_of(parameter) as numbers:
                numbers.fill_(value)

    def copy(self, parameter: Tensor, values: Tensor) -> None:
        """Fills a parameter with given numbers, in place."""
        if self._first_time(parameter):
            with self._numbers_of(parameter) as numbers:
                numbers.copy_(values)

    def normal(self, parameter: Tensor, std: float) -> None:
        """Fills a parameter from N(0, std²), in place."""
        if self._first_time(parameter):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "init", self._names[id(parameter)]))
            with self._numbers_of(parameter) as numbers:
                numbers.normal_(0.0, std, generator=generator)

    def uniform(self, parameter: Tensor, low: float, high: float) -> Tensor:
        """Numbers for a parameter from U(low, high), of its shape, from its stream; to be transformed and given to `copy`."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "init", self._names[id(parameter)]))
        return torch.empty(parameter.shape).uniform_(low, high, generator=generator)

    def missing(self) -> list[str]:
        """Names of the parameters that nothing has filled."""
        return [name for key, name in self._names.items() if key not in self._done]

    @contextmanager
    def _numbers_of(self, parameter: Tensor) -> Iterator[Tensor]:
        """Where to write a parameter's numbers."""
        numbers = parameter if self.pour is None else torch.empty(parameter.shape)
        with torch.no_grad():
            yield numbers
        if self.pour is not None:
            self.pour(self._names[id(parameter)], numbers)

    def _first_time(self, parameter: Tensor) -> bool:
        new = id(parameter) not in self._done
        self._done.add(id(parameter))
        return new


class Rated:
    """What models inherit, so that optimisers can ask how the learning rates go with the width."""

    @property
    def hidden_rate(self) -> float:
        """Factor on the learning rate of hidden matrices under Adam; see `MuPInit`."""
        return 1.0


class Initialised:
    """What modules inherit that know how their own parameters start; their children are asked for themselves."""

    def initialise(self, draw: Draw) -> None:
        """Fills them by `draw`."""
        raise NotImplementedError


def initialise(model: nn.Module, init: WeightInit, n_layers: int, seed: int, pour: Pour | None = None) -> None:
    """Fills all parameters of a model: matrices by their uses, biases with 0, norms with 1, others as their modules say.

    In place; or, where the model has no memory, by telling `pour` the name and the numbers of each, one at a time.
    """
    draw = Draw(model, init, n_layers, seed, pour)
    for module in model.modules():
        if isinstance(module, Initialised):
            module.initialise(draw)
        elif isinstance(module, Linear):
            draw.matrix(module.weight, module.uses, module.heights)
            if module.bias is not None:
                draw.fill(module.bias, 0.0)
        elif isinstance(module, nn.Embedding):
            draw.matrix(module.weight, (Use.EMBEDDING,))
    assert not draw.missing(), f"nothing initialises {draw.missing()}"
