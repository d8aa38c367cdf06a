"""Sums told as stories, solved in steps: GSM8K (Cobbe et al., 2021, arXiv 2110.14168). The last number of an answer counts.

    bloomery eval MODEL recipes/tasks/gsm8k.py --data gsm8k.jsonl --shots 5
"""

from __future__ import annotations

from bloomery.data.folds import Fold
from bloomery.evals import Generative, Prompt
from bloomery.generate import Decoding
from bloomery.text.readers import Files, Rows


def gsm8k(*, data: str, shown: str = "", max_new_tokens: int = 200) -> Generative:
    """Asks --data, rows with question and answer, whose result stands behind ####; examples are from --shown, or from a tenth of --data."""
    columns = Rows(form="columns")
    return Generative(
        name="gsm8k", rows=Files(path=data, rows=columns), examples=Files(path=shown, rows=columns) if shown else Fold(number=0, of=10),
        prompts=(Prompt(ask="Question: {question}\nAnswer:"), Prompt(name="chat", ask="{question}", form="chat")),
        decoding=Decoding(stops=("\n\n", "Question:"), max_new_tokens=max_new_tokens),
        taken=r"-?\$?\d[\d,]*(?:\.\d+)?", which="last", taken_of_expected=r"####\s*(\S+)", ignored=(",", r"\$", r"\.0*$"),
    )  # fmt: skip
