"""How well texts are foreseen, in bits per byte: any files.

    bloomery eval MODEL recipes/tasks/foreseen.py --data 'held_out/*.txt' --against OTHER
"""

from __future__ import annotations

from bloomery.evals import TextLikelihood
from bloomery.text.readers import Files


def foreseen(*, data: str, name: str = "foreseen") -> TextLikelihood:
    """Reads --data, a file, a folder or a pattern of names."""
    return TextLikelihood(name=name, rows=Files(path=data))
