"""Science questions with five choices, each in a column of its own, and the letter of the right one.

    bloomery eval MODEL recipes/tasks/science.py --data questions.csv --variants all
"""

from __future__ import annotations

from bloomery.data.folds import Fold
from bloomery.evals import MultipleChoice, Prompt
from bloomery.text.readers import Files, Rows

LETTERS = ("A", "B", "C", "D", "E")


def science(*, data: str) -> MultipleChoice:
    """Asks --data, rows with the columns prompt, A to E and answer; a tenth of them is kept for examples."""
    return MultipleChoice(
        name="science", rows=Files(path=data, rows=Rows(form="columns")), choices=LETTERS, gold="answer", examples=Fold(number=0, of=10),
        prompts=(
            Prompt(ask="Question: {prompt}\nAnswer:", alone="Answer:"),
            Prompt(name="letters", ask="Question: {prompt}\n{choices}\nAnswer:", labels=LETTERS, alone="Answer:"),
        ),
    )  # fmt: skip
