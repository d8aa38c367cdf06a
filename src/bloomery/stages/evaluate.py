"""`Evaluate`: put held-out questions to a model and keep every answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from bloomery.core.units import Tokens, human_seconds
from bloomery.evals import ExactMatch, questions_of
from bloomery.evals.likelihood import Pair, likelihoods
from bloomery.generate import complete
from bloomery.models import Model, causal
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.trained import Trained, opened, tokenizer_of
from bloomery.store import Artifact, Workspace, write_json, write_text
from bloomery.text.chat import ChatTemplate

ASKED_AT_ONCE = 64


class Evaluate(Stage):
    """Asks each assistant turn of a corpus of conversations, greedily, and compares the answer with the conversation's own. An encoder–decoder
    reads what was said before as its passage.

    The artifact holds `results.json` (the share of exact answers, in all and by kind) and `answers.jsonl` (each question with what was
    expected and what came, so that every wrong answer can be read; and of a decoder log p of both, with their ends, in nats, behind what of
    the conversation it can read).
    """

    model: Trained
    """The model that is asked."""
    questions: Prepare
    """Conversations that the model has not read; those of its documents that carry no messages are passed over."""
    limit: int = Field(default=500, gt=0)
    """Questions asked at most, the first ones of the corpus."""
    max_new_tokens: Tokens = 24
    """Longest answer."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        trained = inputs[self.model]
        model, tokenizer = causal(opened(trained, context.device)), tokenizer_of(trained)
        task = ExactMatch(questions_of(conversations(inputs[self.questions]))[: self.limit])
        template = ChatTemplate()
        prompts = [template.render(q.messages, tokenizer, add_generation_prompt=True).ids for q in task.samples()]
        started = workspace.seconds
        answers, written = list[str](), list[list[int]]()
        for i in range(0, len(prompts), ASKED_AT_ONCE):
            asked = prompts[i : i + ASKED_AT_ONCE]
            read, begun = (asked, [[tokenizer.begin]] * len(asked)) if model.config.reads_passage else (None, asked)
            part = complete(model, begun, {tokenizer.end}, self.max_new_tokens, vocab_size=tokenizer.vocab_size, passages=read)
            written += part
            answers += [tokenizer.decode(ids) for ids in part]
            context.progress(f"{self.reference}: {len(answers)} of {len(prompts)} questions answered")
        score = task.score(answers)
        weighed = [{}] * len(prompts) if model.config.reads_passage else _weighed(model, prompts, {
            "log_p_expected": [(*tokenizer.encode(q.expected), tokenizer.end) for q in task.samples()],
            "log_p_said": [(*ids, tokenizer.end)[: self.max_new_tokens] for ids in written],
        })  # fmt: skip
        kinds = {kind: {"exact": s.share, "asked": s.asked} for kind, s in task.by_kind(answers).items()}
        lines = [
            {"id": j.question.id, "kind": j.question.kind, "right": j.right, "expected": j.question.expected, "answer": j.answer,
             "question": j.question.messages[-1]["content"], **more}
            for j, more in zip(task.judge(answers), weighed, strict=True)
        ]  # fmt: skip
        write_text(workspace.path / "answers.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        workspace.count("answers.jsonl", rows=len(lines))
        results = {"exact_match": score.share, "standard_error": score.standard_error, "right": score.right, "asked": score.asked}
        write_json(workspace.path / "results.json", results | {"kinds": kinds})
        context.say(f"{self.reference}: {score} answered exactly, in {human_seconds(workspace.seconds - started)}")
        return results


def _weighed(model: Model, prompts: Sequence[Sequence[int]], texts: Mapping[str, Sequence[Sequence[int]]]) -> list[dict[str, Any]]:
    """How likely a decoder finds each of several texts behind each prompt, by the name of the text."""
    found = {
        name: likelihoods(model, [Pair(tuple(before), tuple(after)) for before, after in zip(prompts, of_each, strict=True)])
        for name, of_each in texts.items()
    }  # fmt: skip
    return [{"numbers": {name: round(of_each[i].logprob, 4) for name, of_each in found.items()}} for i in range(len(prompts))]


def conversations(corpus: Artifact) -> Iterator[tuple[str, list[dict[str, str]], list[str]]]:
    """Id, messages and kinds of questions of each conversation in a prepared corpus."""
    for batch in documents(corpus, columns=("id", "messages", "meta")):
        for row in batch.to_pylist():
            if row["messages"]:
                about = json.loads(row["meta"]) if row["meta"] else {}
                yield row["id"], row["messages"], [question["kind"] for question in about.get("questions", [])]
