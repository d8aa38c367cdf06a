"""A value, a model and a batch for every objective, for `test_objectives.py`; an objective that has none here is built from its defaults."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bloomery.data.batch import Batch
from bloomery.models import LlamaConfig, MixtralConfig, ModelConfig
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import CausalLM, Combined, LoadBalance, Objective, RouterZ

TINY = LlamaConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16)
EXPERTS = MixtralConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16, n_experts=5, n_active=2)


def uneven(rows: int = 5, time: int = 12) -> Batch:
    """Rows of which ever more places count."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(32, (rows, time), generator=generator)
    weight = (torch.rand(rows, time, generator=generator) < torch.linspace(0.1, 1.0, rows)[:, None]).float()
    return Batch(tokens, tokens.roll(-1, 1), weight, SequenceLayout.rows(rows, time))


def packed() -> Batch:
    """The same rows, of which the first holds three documents and the last ones padding."""
    plain, segments = uneven(), torch.ones(5, 12, dtype=torch.long)
    segments[0], segments[3, 7:], segments[4, 2:] = torch.tensor([1] * 3 + [2] * 5 + [3] * 4), 0, 0
    return Batch(plain.tokens, plain.targets, plain.loss_weight * (segments > 0), SequenceLayout.packed(segments))


@dataclass(frozen=True, kw_only=True)
class Example:
    """An objective, a model that it fits, and a batch of five rows."""

    objective: Objective
    model: ModelConfig = TINY
    batch: Callable[[], Batch] = uneven


EXAMPLES: dict[type[Objective], Example] = {
    LoadBalance: Example(objective=LoadBalance(), model=EXPERTS, batch=packed),
    RouterZ: Example(objective=RouterZ(), model=EXPERTS, batch=packed),
    Combined: Example(objective=0.5 * CausalLM() + 0.25 * CausalLM(z_loss=0.1)),
}


def example(kind: type[Objective]) -> Example:
    """That of an objective."""
    return EXAMPLES[kind] if kind in EXAMPLES else Example(objective=kind())
