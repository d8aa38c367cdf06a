"""Time, memory and error of every mixer against length, beside torch's own attention in its barest form.

    python -m bench.attention [--lengths 256 512 …] [--d_model 256] [--n_heads 4] [--repeats 5] [--threads 1] [--only NAME …]

"plain sdpa" is two linear maps around torch's scaled_dot_product_attention: no positions, no layout, causal. The mixers and the way of
measuring are those of recipes/contrasts/attention_cost.py; the mixers take turns, and medians are printed.
"""

from __future__ import annotations

import argparse

import torch.nn.functional as F
from recipes.contrasts.attention_cost import attention_cost
from torch import Tensor, nn

from bloomery.nn import SequenceLayout, Shared
from bloomery.nn.init import initialise
from bloomery.stages.cost_curve import CostCurve, Subject, independent, measure, text_of, threads


class PlainSdpa(nn.Module):
    """softmax(q·kᵀ/√d)·v between two linear maps."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model, bias=False), nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, layout: SequenceLayout) -> Tensor:
        queries, keys, values = (h.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for h in self.qkv(x).chunk(3, dim=-1))
        return self.out(F.scaled_dot_product_attention(queries, keys, values, is_causal=True).transpose(1, 2).flatten(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--d_model", type=int, default=256)
    parser.add_argument("--n_heads", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="mixers to measure; all by default")
    arguments = parser.parse_args()
    sizes = {"d_model": arguments.d_model, "n_heads": arguments.n_heads}
    recipe = attention_cost(longest=max(arguments.lengths), shortest=min(arguments.lengths), **sizes)
    (stage,) = recipe.wanted
    assert isinstance(stage, CostCurve)
    subjects = {"plain sdpa": Subject(PlainSdpa(arguments.d_model, arguments.n_heads), causal=True)}
    for curve in stage.curves:
        mixer = curve.mixer.build(arguments.d_model, max(arguments.lengths), Shared())
        initialise(mixer, stage.init, n_layers=1, seed=0)
        subjects[curve.name] = Subject(mixer, curve.causal)
    if arguments.only:
        subjects = {name: subject for name, subject in subjects.items() if name in arguments.only}
    points = []
    with threads(arguments.threads):
        for length in sorted(arguments.lengths):
            points += measure(subjects, independent(length, arguments.d_model, seed=0), arguments.repeats)
    print(text_of(f"d_model {arguments.d_model}, {arguments.n_heads} heads, one row, threads: {arguments.threads}", points))


if __name__ == "__main__":
    main()
