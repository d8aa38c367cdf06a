"""Science questions of ARC, and others of its form: rows with a question, a list of choices, and the number of the right one.

    bloomery eval MODEL recipes/tasks/arc.py --data arc_easy_val.jsonl --shown arc_easy_train.jsonl --shots 5 --variants all
"""

from __future__ import annotations

from bloomery.data.folds import Fold
from bloomery.evals import MultipleChoice, Prompt
from bloomery.text.readers import Files, Rows

LETTERS = ("A", "B", "C", "D", "E")


def arc(*, data: str, shown: str = "", name: str = "arc") -> MultipleChoice:
    """Asks --data; examples are drawn from --shown, or from a tenth of --data that is not asked. OpenBookQA, CommonsenseQA, PIQA … have the
    same columns: --name says what tables call them."""
    columns = Rows(form="columns")
    return MultipleChoice(
        name=name, rows=Files(path=data, rows=columns), overlap="leave_out",
        examples=Files(path=shown, rows=columns) if shown else Fold(number=0, of=10),
        prompts=(
            Prompt(ask="Question: {question}\nAnswer:", alone="Answer:"),
            Prompt(name="bare", ask="{question}"),
            Prompt(name="letters", ask="Question: {question}\n{choices}\nAnswer:", labels=LETTERS, alone="Answer:"),
            Prompt(name="chat", ask="{question}\n{choices}\nWhich is right? Say its letter.", labels=LETTERS, form="chat"),
        ),
    )  # fmt: skip
