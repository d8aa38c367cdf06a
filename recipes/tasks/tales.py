"""Tasks on made-up stories, which need no data: which sentence goes on, who is where, and how well the stories are foreseen."""

from __future__ import annotations

from typing import Literal

from bloomery.data.folds import Fold
from bloomery.evals import EvalTask, Generative, MultipleChoice, Prompt, TextLikelihood
from bloomery.generate import Decoding
from bloomery.text.readers import TaleRows, TaleStories
from bloomery.text.tales import Tales


def tales(*, count: int = 200, size: Literal["tiny", "small", "full", "short"] = "short", first: int = 0) -> tuple[EvalTask, ...]:
    """Asks --count held-out stories of a --size, from number --first on; one in ten is kept for examples."""
    book = Tales(size=size, split="held_out")
    rows, examples = TaleRows(tales=book, count=count, first=first), Fold(number=0, of=10)
    goes_on = MultipleChoice(
        name="goes_on", rows=rows, choices=("true", "false"), gold="true", examples=examples,
        prompts=(Prompt(ask="{story}"), Prompt(name="titled", ask="Story: {story}\nIn the end:")),
    )  # fmt: skip
    asked = Generative(
        name="asked", rows=rows, examples=examples, compared=("exact", "words", "chrf"),
        decoding=Decoding(stops=("\n",), max_new_tokens=16),
        prompts=(
            Prompt(name="chat", ask="{story}\n\n{question}", form="chat"),
            Prompt(name="plain", ask="{story}\nQuestion: {question}\nAnswer:"),
        ),
    )  # fmt: skip
    return goes_on, asked, TextLikelihood(name="foreseen", rows=TaleStories(tales=book, count=count, first=first))
