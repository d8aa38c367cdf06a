"""Answers that stand in a passage, judged by their words as SQuAD is: adversarial QA and the like, as rows of prompt and completion.

    bloomery eval MODEL recipes/tasks/passages.py --data adversarial_qa_dbert_based_on.jsonl --limit 200
"""

from __future__ import annotations

from bloomery.data.folds import Fold
from bloomery.evals import Generative, Prompt
from bloomery.generate import Decoding
from bloomery.text.readers import Files, Rows


def passages(*, data: str) -> Generative:
    """Asks --data, rows whose prompt has passage and question, and whose completion is the answer."""
    return Generative(
        name="passages", rows=Files(path=data, rows=Rows(form="columns")), expected="completion", compared=("words", "exact"),
        ignored=(r"<\|endoftext\|>",), examples=Fold(number=0, of=10), decoding=Decoding(stops=("\n",), max_new_tokens=24),
        prompts=(Prompt(ask="{prompt}Answer:"), Prompt(name="chat", ask="{prompt}", form="chat")),
    )  # fmt: skip
