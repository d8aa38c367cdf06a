"""Yes or no to questions about a passage: BoolQ (Clark et al., 2019, arXiv 1905.10044).

    bloomery eval MODEL recipes/tasks/boolq.py --data boolq_val.jsonl --against OTHER
"""

from __future__ import annotations

from bloomery.data.folds import Fold
from bloomery.evals import MultipleChoice, Prompt
from bloomery.text.readers import Files, Rows


def boolq(*, data: str, shown: str = "") -> MultipleChoice:
    """Asks --data, rows with passage, question, choices and gold; questions about one passage count as drawn together."""
    columns = Rows(form="columns")
    return MultipleChoice(
        name="boolq", rows=Files(path=data, rows=columns), belongs="passage", overlap="leave_out",
        examples=Files(path=shown, rows=columns) if shown else Fold(number=0, of=10),
        prompts=(
            Prompt(ask="{passage}\nQuestion: {question}?\nAnswer:", alone="Answer:"),
            Prompt(name="chat", ask="{passage}\n\n{question}?", form="chat"),
        ),
    )  # fmt: skip
