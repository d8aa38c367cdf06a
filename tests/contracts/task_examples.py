"""One of each kind of task that is put to a model, on rows in a folder."""

from __future__ import annotations

from pathlib import Path

from tests.evals.small import table

from bloomery.data.folds import Fold
from bloomery.evals import EvalTask, Generative, MultipleChoice, Prompt, TextLikelihood
from bloomery.generate import Decoding

ROWS = [{"q": f"what is {word}", "a": [word, "no", "é it"], "gold": i % 3, "said": f"{word} it is"} for i, word in enumerate(
    ("red", "blue", "in it", "here", "a stone", "a lark", "now", "then", "x"))]  # fmt: skip
WORDINGS = (Prompt(ask="{q}?"), Prompt(name="chat", ask="{q}", form="chat"))


def examples(folder: Path) -> list[EvalTask]:
    """At least one of each kind."""
    rows = table(folder / "rows.jsonl", ROWS)
    return [
        MultipleChoice(name="choice", rows=rows, choices="a", prompts=WORDINGS, examples=Fold(number=0, of=4), shots=1),
        Generative(
            name="written", rows=rows, expected="said", prompts=WORDINGS, compared=("exact", "words", "bleu", "chrf", "rouge"), belongs="gold",
            decoding=Decoding(max_new_tokens=4),
        ),
        TextLikelihood(name="texts", rows=rows, text="q"),
    ]  # fmt: skip
