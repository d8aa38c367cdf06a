"""How well texts are foreseen, in bits per byte: any files.

    bloomery eval MODEL recipes/tasks/foreseen.py --data 'held_out/*.txt' --against OTHER
"""

from __future__ import annotations

from bloomery.evals import Perplexity
from bloomery.text.readers import Files


def foreseen(*, data: str, name: str = "foreseen") -> Perplexity:
    """Reads --data, a file, a folder or a pattern of names."""
    return Perplexity(name=name, rows=Files(path=data))
