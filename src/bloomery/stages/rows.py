"""The rows of a training: corpora packed and mixed, and what each gives."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from bloomery.core.units import human_count
from bloomery.data import Mixed, Mixture, Packed, Packing, Source, TokenShards


def packed_of(shards: Mapping[str, TokenShards], packing: Packing, time: int, seed: int) -> dict[str, Packed]:
    """The rows of each of some corpora.

    Args:
        shards: by name.
        packing: of every corpus.
        time: tokens per row.
        seed: of the order of documents.
    """
    return {name: Packed(one, packing, time=time, seed=seed, name=name) for name, one in shards.items()}


def mixed_of(packed: Mapping[str, Packed], phases: Sequence[Mixed]) -> Source:
    """The rows of some corpora together: of one as they are, of several mixed."""
    if len(packed) == 1:
        return next(iter(packed.values()))
    used = {name for phase in phases for name in phase.proportions}
    return Mixture({name: source for name, source in packed.items() if name in used}, phases[0].proportions, phases[1:])


def contributions(source: Source, rows: int) -> list[str]:
    """A line on what each corpus gives to `rows` rows, and one per phase where the proportions change on the way."""
    lines = []
    for part in source.supply(rows):
        cut = f"; {part.cut_documents} documents are longer than a row" if part.cut_documents else ""
        lines.append(f"{part.source}: {part.rows / rows:.1%} of the rows, {human_count(part.tokens)} tokens, {part.epochs:.2f} epochs of "
                     f"{human_count(part.documents)} documents{cut}")  # fmt: skip
    if isinstance(source, Mixture) and len(source.phases) > 1:
        phases = source.plain()
        for (first, parts), (end, _) in itertools.pairwise([*phases, (rows, {})]):
            shares = ", ".join(f"{name} {part / sum(parts.values()):.1%}" for name, part in parts.items())
            lines.append(f"tokens {human_count(first * source.time)} to {human_count(end * source.time)}: {shares}")
    return lines
