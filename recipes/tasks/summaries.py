"""A text in a sentence, judged by ROUGE: XSum (Narayan et al., 2018, arXiv 1808.08745) and the like, as rows of prompt and completion.

    bloomery eval MODEL recipes/tasks/summaries.py --data xsum_DOC_tldr.jsonl --limit 100
"""

from __future__ import annotations

from bloomery.evals import Generative, Prompt
from bloomery.generate import Decoding
from bloomery.text.readers import Files, Rows


def summaries(*, data: str, max_new_tokens: int = 64) -> Generative:
    """Asks --data, rows whose prompt has the text and what is wanted of it, and whose completion is the summary."""
    return Generative(
        name="summaries", rows=Files(path=data, rows=Rows(form="columns")), expected="completion", compared=("rouge", "chrf", "bleu", "exact"),
        ignored=(r"<\|endoftext\|>",), decoding=Decoding(stops=("\n",), max_new_tokens=max_new_tokens),
        prompts=(Prompt(ask="{prompt}"), Prompt(name="chat", ask="{prompt}", form="chat")),
    )  # fmt: skip
