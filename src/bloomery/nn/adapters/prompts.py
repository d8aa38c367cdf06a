"""Virtual tokens: vectors that stand between the tokens of each document, as if these had been written there.

Where they stand goes by the places of a document's own tokens, so that packed rows, rows read in pieces and rows of different lengths need
no code of their own: the rows are made longer, read by the model as any others, and what it says at virtual places is left out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.adapters.adapter import Adapter, added
from bloomery.nn.adapters.shells import Change, shell_of
from bloomery.nn.cache import Cache
from bloomery.nn.layout import PADDING, SequenceLayout
from bloomery.nn.seen import Seen


class Prompting(Adapter):
    """What gives each document virtual tokens. Subclasses say what their vectors are, and where they stand."""

    starts_at_base: ClassVar[bool] = False

    n_tokens: Annotated[int, Gt(0)] = 20
    """Virtual tokens."""

    @property
    def n_virtual(self) -> int:
        return self.n_tokens

    @property
    def places(self) -> tuple[int, ...]:
        """Before which of a document's own tokens each virtual one stands, counted from 0, in order."""
        return (0,) * self.n_tokens

    @abstractmethod
    def vectors(self, width: int) -> VirtualTokens:
        """The module that gives the vectors, of the width of embeddings."""

    def add(self, model: nn.Module) -> None:
        reader = reader_of(model, self)
        if any(isinstance(module, VirtualTokens) for module in added(model)):
            raise ConfigError(f"the model has virtual tokens already, and {self.kind()} would add more; take one prompt")
        (path,) = [path for path, module in model.named_modules() if module is reader.embedding]
        shell, longest = shell_of(model, path), reader.config.max_seq_len
        vectors = self.vectors(shell.shape[1])
        vectors.vocab_size = shell.shape[0]
        shell.adapters[self.name] = vectors
        reader.hidden = partial(read_with, reader.hidden, vectors, self.places, shell.shape[0], longest)
        reader.new_cache = partial(longer_cache, reader.new_cache, vectors, 2 * self.n_tokens)


class VirtualTokens(Change):
    """The vectors of virtual tokens, and the place where they are looked up: the table of tokens, from the id after its last one on."""

    vocab_size: int

    @abstractmethod
    def vectors(self) -> Float[Tensor, "n width"]:
        """The vectors."""

    def looked_up(self, tokens: Int[Tensor, "*batch"], y: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch columns"]:
        virtual = tokens - self.vocab_size
        found = self.vectors().to(y.dtype)[virtual.clamp(min=0)]
        return torch.where((virtual >= 0)[..., None], found, y)


def reader_of(model: nn.Module, adapter: Adapter) -> Any:
    """The stack of blocks that reads tokens; raises `ConfigError` where there is none, or more than one."""
    found = [m for m in model.modules() if isinstance(getattr(m, "embedding", None), nn.Embedding) and hasattr(m, "blocks")]
    if len(found) != 1 or hasattr(found[0], "encoder"):
        raise ConfigError(f"{adapter.kind()} is for models that are one stack of blocks; take LoRA for others")
    return found[0]


class Longer(NamedTuple):
    """Rows with virtual tokens in them.

    Attributes:
        tokens: ids; those of virtual ones are above the vocabulary.
        layout: of all of them.
        own: where the rows' own tokens are.
    """

    tokens: Int[Tensor, "batch longer"]
    layout: SequenceLayout
    own: Int[Tensor, "batch time"]


def inserted(tokens: Int[Tensor, "batch time"], layout: SequenceLayout, places: Sequence[int], vocab_size: int, max_seq_len: int) -> Longer:
    """Puts virtual tokens before those that stand at `places` of their documents; no document is changed by what others are in its row.

    Args:
        tokens: ids below vocab_size.
        layout: of them.
        places: of each virtual token, in order.
        vocab_size: the id of the first virtual token.
        max_seq_len: positions stay below it.
    """
    batch, time = tokens.shape
    at = torch.tensor(places, device=tokens.device)
    real = None if layout.segments is None else layout.segments != PADDING
    here = layout.positions[..., None] == at  # (batch, time, n)
    if real is not None:
        here = here & real[..., None]
    counts = here.sum(-1)
    own = torch.arange(time, device=tokens.device) + counts.cumsum(1)  # (batch, time)
    longer = int(own.max()) + 1
    source = torch.full((batch, longer), -1, device=tokens.device).scatter(1, own, torch.arange(time, device=tokens.device).expand(batch, time))
    rows, before, number = here.nonzero(as_tuple=True)
    slots = own[rows, before] - counts[rows, before] + here.cumsum(-1)[rows, before, number] - 1
    source[rows, slots] = before
    virtual = torch.full_like(source, -1)
    virtual[rows, slots] = number
    padding, source = source < 0, source.clamp(min=0)

    def spread(values: Tensor) -> Tensor:
        return values.gather(1, source)

    positions, is_virtual = spread(layout.positions), virtual >= 0
    earlier = torch.searchsorted(at, positions, right=True)  # virtual tokens up to each place
    positions = torch.where(is_virtual, at[virtual.clamp(min=0)] + virtual, positions + earlier)
    segments = None if layout.segments is None else spread(layout.segments)
    if padding.any():
        after = torch.arange(longer, device=tokens.device) - own[:, -1:] + positions.gather(1, own[:, -1:])
        positions = torch.where(padding, after.clamp(max=max_seq_len - 1), positions)
        segments = torch.where(padding, PADDING, torch.ones_like(positions) if segments is None else segments)
    prefix, parts = (None if values is None else spread(values) for values in (layout.prefix, layout.parts))
    ids = torch.where(is_virtual, vocab_size + virtual, spread(tokens))
    return Longer(ids, replace(layout, positions=positions, segments=segments, prefix=prefix, parts=parts), own)


def read_with(
    hidden: Callable[..., Tensor], vectors: VirtualTokens, places: Sequence[int], vocab_size: int, max_seq_len: int,
    tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
) -> Float[Tensor, "batch time d_model"]:
    """What a model's `hidden` says at the rows' own places when virtual tokens stand among them."""
    if not vectors.active:
        return hidden(tokens, layout, cache, seen)
    longer, inner = inserted(tokens, layout, places, vocab_size, max_seq_len), None if seen is None else Seen()

    def own(states: Tensor) -> Tensor:
        return states.gather(1, longer.own[..., None].expand(*longer.own.shape, states.shape[-1]))

    out = own(hidden(longer.tokens, longer.layout, cache, inner))
    if seen is not None and inner is not None:
        seen.hidden += map(own, inner.hidden)
        seen.ff_inputs += map(own, inner.ff_inputs)
        seen.last = None if inner.last is None else own(inner.last)
    return out


def longer_cache(new_cache: Callable[..., Any], vectors: VirtualTokens, more: int, batch: int, capacity: int) -> Any:
    """A cache with room for virtual tokens."""
    return new_cache(batch, capacity + more * vectors.active)


def there_already(model: nn.Module) -> int:
    """Has a model read rows as if its virtual tokens stood in them already, one document in each. That is for plans: where virtual tokens go
    is a matter of the numbers in a layout, and a plan has none.

    Returns:
        how many virtual tokens stand in such a row; 0 where the model adds none.
    """
    for module in model.modules():
        hidden = getattr(module, "hidden", None)
        if isinstance(hidden, partial) and hidden.func is read_with:
            module.hidden = hidden.args[0]
            return len(hidden.args[2])
    return 0
