"""Rows of the usual instruction, chat and preference data sets, recognised by their columns and what is in them.

    preference    chosen and rejected; two answers and a verdict; a list of answers with ranks or scores; verified solutions; reply trees
    label         a conversation, or prompt and completion, and whether it was wanted (KTO)
    messages      lists of messages in the spellings of OpenAI and ShareGPT
    turns         lists of questions, with lists of answers
    pairs         instruction, input, output (Alpaca) under any of the usual names
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bloomery.core.errors import DataError
from bloomery.text.instructions.messages import Talk, is_transcript, read_messages, read_transcript
from bloomery.text.instructions.preferences import Completion, Preference

MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog")
PROMPT = ("prompt", "instruction", "question", "problem", "query", "inputs_pretokenized", "inputs")
INPUT = ("input", "context", "passage")
OUTPUT = (
    "completion", "output", "response", "answer", "solution", "targets_pretokenized", "targets", "target", "rationale", "canonical_solution",
)  # fmt: skip
SYSTEM = ("system", "system_prompt")
TYPE = ("type", "category", "task_type", "task", "scenario", "subject", "data_topic", "solution_type", "name")
END_MARKS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "</s>")
"""What some data sets end a completion with; our templates say themselves where a turn ends."""

NAMES = {
    ("instruction", "output"): "alpaca", ("instruction", "response"): "dolly", ("question", "answer"): "question_answer",
    ("prompt", "completion"): "prompt_completion", ("inputs_pretokenized", "targets_pretokenized"): "p3", ("inputs", "targets"): "p3",
}  # fmt: skip
"""What `meta` calls the forms that have a name; others are "prompt_answer"."""

VERDICTS: tuple[tuple[str, str, str, dict[Any, int]], ...] = (
    ("response_1", "response_2", "label", {0: 1, 1: 2, 2: 0}),  # Auto-J: 2 is a tie
    ("output_1", "output_2", "label", {1: 1, 2: 2, 0: 0}),  # LLMBar
    ("output_1", "output_2", "preference", {1: 1, 2: 2, 0: 0}),  # AlpacaFarm
    ("response_0", "response_1", "better_response_id", {0: 1, 1: 2}),  # PKU-SafeRLHF
    ("response1", "response2", "annotators", {0: 0, 1: 1, 2: 2}),  # PandaLM: the majority of annotator1, annotator2, …
    ("response_a", "response_b", "winner", {"model_a": 1, "model_b": 2, "a": 1, "b": 2}),  # LMSYS, where anything else is a tie
    ("conversation_a", "conversation_b", "winner", {"model_a": 1, "model_b": 2}),
)
"""Two answers, the column of the verdict, and which values of it say that the first (1) or the second (2) is better."""


class Conversation(NamedTuple):
    """A row as messages, and what else is known of it."""

    messages: list[dict[str, str]]
    meta: dict[str, Any]


class Row:
    """A row whose columns are found under any of several names, however they are capitalised."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.columns = {str(name).strip().lower().replace(" ", "_").replace("-", "_"): value for name, value in row.items()}

    def name(self, names: Sequence[str]) -> str | None:
        """The first of the names under which there is something."""
        return next((name for name in names if self.columns.get(name) is not None), None)

    def get(self, *names: str) -> Any:
        """What is there, or None."""
        return self.columns.get(self.name(names) or "")

    def text(self, name: str) -> str:
        """A column's text; raises `DataError` where it holds anything else."""
        if not isinstance(value := self.columns[name], str):
            raise DataError(f"{name}={value!r} is not a text; give one")
        return value


def read_row(row: Mapping[str, Any], prompt_only: bool = False) -> Conversation | None:
    """The conversation that a row holds, with its `meta`; None where its columns are of no known form.

    `meta` has "form", and of these what the row has: "type", "instruction", "input", "output", "system", "preference", "learn" (for each
    message whether it is to be learnt) and "ignored" (what was left out, by name: tools, images, further instances).

    Args:
        row: columns and values.
        prompt_only: read the prompt alone, as the user's message.

    Raises:
        DataError: the columns are known, and what is in them is not what they promise.
    """
    found = Row(row)
    for read in (_prompts,) if prompt_only else (_preferences, _labelled, _messages, _turns, _pairs):
        if (conversation := read(found)) is not None:
            kind = found.get(*TYPE)
            meta = conversation.meta | ({"type": kind} if isinstance(kind, str) else {})
            return Conversation(conversation.messages, {k: v for k, v in meta.items() if v not in (None, {}, "")})
    return None


def _prompts(row: Row) -> Conversation | None:
    if row.name(MESSAGES):
        talk = _prompt(row)
        while talk.messages and talk.messages[-1]["role"] == "assistant":
            talk.messages.pop()
            talk.learn.pop()
        return _conversation("prompt", talk)
    if isinstance(turns := row.get("turns"), list) and turns:
        talk = Talk()
        talk.add("user", str(turns[0]))
        talk.ignored += Counter({"later turns": len(turns) - 1})
        return _conversation("prompt", talk)
    return None if row.name((*PROMPT, *INPUT)) is None else _conversation("prompt", _asked(row)[0])


def _messages(row: Row) -> Conversation | None:
    if (name := row.name(MESSAGES)) is None:
        return None
    value = row.columns[name]
    talk = _system(row)
    talk.extend(read_messages(value, name))
    if row.get("tools", "functions") not in (None, "", "[]", []):
        talk.ignored["tools"] += 1
    first = value[0] if isinstance(value, list) and value else None
    sharegpt = isinstance(first, Mapping) and "from" in first
    return _conversation("transcript" if isinstance(value, str) and is_transcript(value) else "sharegpt" if sharegpt else "messages", talk)


def _turns(row: Row) -> Conversation | None:
    asked, answers = row.get("turns"), row.get("reference")
    if not isinstance(asked, list) or not isinstance(answers, list) or len(asked) != len(answers):
        return None
    talk = Talk()
    for question, answer in zip(asked, answers, strict=True):
        talk.add("user", str(question))
        talk.add("assistant", str(answer))
    return _conversation("turns", talk)


def _pairs(row: Row) -> Conversation | None:
    given = row.name((*PROMPT, *INPUT))
    listed = row.get("instances") if row.name(["instruction"]) else None
    instances = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    if instances:
        row.columns |= {name: instances[0].get(name) for name in ("input", "output")}
    answered = row.name([name for name in OUTPUT if name != given])
    if given is None or answered is None:
        return None
    if isinstance(row.columns[given], list) or isinstance(row.columns[answered], list):
        talk = _prompt(row, given)
        talk.extend(_reply(row.columns[answered], answered))
        return _conversation("prompt_completion", talk)
    talk, parts = _asked(row)
    output = _ended(_answer(row.columns[answered], answered))
    talk.add("assistant", output)
    if len(instances) > 1:
        talk.ignored["instances"] = len(instances) - 1
    conversation = _conversation("seed_task" if instances else NAMES.get((given, answered), "prompt_answer"), talk)
    return Conversation(conversation.messages, conversation.meta | parts | {"output": output})


def _labelled(row: Row) -> Conversation | None:
    label = row.get("label", "kto_tag")
    if not isinstance(label, bool):
        return None
    read = _messages(row) or _pairs(row)
    if read is None or not read.messages or read.messages[-1]["role"] != "assistant":
        return None
    preference = Preference(read.messages[:-1], [Completion(read.messages[-1:], good=label)])
    return Conversation(read.messages, read.meta | {"form": "kto", "preference": preference.to_meta()})


def _preferences(row: Row) -> Conversation | None:
    for read in (_chosen, _compared, _listed, _verified, _tree):
        if (found := read(row)) is not None:
            form, preference, ignored = found
            if not preference.prompt:
                raise DataError("the answers have no prompt before them; give one in the column 'prompt'")
            if any(not c.messages or c.messages[-1]["role"] != "assistant" for c in preference.completions):
                raise DataError("an answer is empty or ends with the user's words; mend or drop the row")
            ranked = preference.ranked()
            parts = _asked(row)[1] if isinstance(row.get(*PROMPT), str) and not is_transcript(row.get(*PROMPT)) else {}
            return Conversation(ranked.messages(), {"form": form, **parts, "preference": ranked.to_meta(), "ignored": dict(ignored)})
    return None


Found = tuple[str, Preference, Counter[str]]


def _chosen(row: Row) -> Found | None:
    pairs = (("chosen", "rejected"), ("chosen_messages", "rejected_messages"))
    names = next((pair for pair in pairs if all(row.name([name]) for name in pair)), None)
    if names is None:
        return None
    talks = [_reply(row.columns[name], name) for name in names]
    if not all(talk.messages for talk in talks):
        raise DataError(f"{names[0 if not talks[0].messages else 1]} holds no message; drop the row or fill it")
    if all(talk.messages[0]["role"] == "assistant" for talk in talks):
        prompt = _prompt(row)
    else:  # both are whole conversations: they part at the last answer before which they are alike
        first, second = (talk.messages for talk in talks)
        both = [i for i, pair in enumerate(zip(first, second, strict=False)) if pair[0]["role"] == pair[1]["role"] == "assistant"]
        parting = max((i for i in both if first[:i] == second[:i]), default=0)
        prompt = Talk(first[:parting])
        talks = [Talk(talk.messages[parting:], ignored=talk.ignored) for talk in talks]
    scores = _scores(row)
    completions = [Completion(talk.messages, rank, score) for talk, rank, score in zip(talks, (1, 2), scores, strict=True)]
    return "chosen_rejected", Preference(prompt.messages, completions), prompt.ignored + talks[0].ignored + talks[1].ignored


def _scores(row: Row) -> list[float | None]:
    known = Row(row.columns | (row.get("metadata") if isinstance(row.get("metadata"), Mapping) else {}))
    return [_number(known.get(f"score_{what}", f"{what}_score", f"{what}_rating")) for what in ("chosen", "rejected")]


def _compared(row: Row) -> Found | None:
    annotators = [value for name, value in row.columns.items() if name.startswith("annotator") and isinstance(value, int)]
    if annotators:
        (most, votes), *others = Counter(annotators).most_common(2)
        row.columns["annotators"] = 0 if others and others[0][1] == votes else most
    for first, second, verdict, better in VERDICTS:
        if row.name([first]) and row.name([second]) and row.name([verdict]):
            told = row.columns[verdict]
            if not isinstance(told, str | int) or (verdict != "winner" and told not in better):
                raise DataError(f"{verdict}={told!r} is not one of {', '.join(map(str, better))}; mend the row")
            best = better.get(told, 0)
            talks = [_reply(row.columns[name], name) for name in (first, second)]
            prompt = _prompt(row) if talks[0].messages and talks[0].messages[0]["role"] == "assistant" else None
            if prompt is None:
                prompt, talks = Talk(talks[0].messages[:1]), [Talk(talk.messages[1:]) for talk in talks]
            ranks = [1, 1] if best == 0 else [1, 2] if best == 1 else [2, 1]
            models = (row.get("model_a"), row.get("model_b"))
            done = [Completion(t.messages, r, model=m if isinstance(m, str) else None) for t, r, m in zip(talks, ranks, models, strict=True)]
            return "compared", Preference(prompt.messages, done), prompt.ignored
    return None


def _listed(row: Row) -> Found | None:
    name = row.name(("completions", "answers", "responses", "candidates"))
    listed = row.columns[name] if name else None
    if not isinstance(listed, list) or not listed or row.name(PROMPT) is None:
        return None
    plain = all(isinstance(one, str) for one in listed)
    ranks, scores = row.get("ranks", "rank", "ranking"), row.get("scores", "ratings", "rating", "score")
    if plain and not isinstance(ranks, list) and not isinstance(scores, list):
        return None
    done = []
    for i, one in enumerate(listed):
        beside = {name: values[i] for name, values in (("rank", ranks), ("score", scores)) if isinstance(values, list) and i < len(values)}
        told = Row({"text": one, **beside} if isinstance(one, str) else one if isinstance(one, Mapping) else {})
        text = told.get("response", "answer", "completion", "output", "text", "content")
        rank, rating = told.get("rank"), _number(told.get("overall_score", "score", "rating", "reward"))
        if not isinstance(text, str) or not text:
            raise DataError(f"{name}[{i}] has no text; give it one under 'response'")
        model = told.get("model")
        done.append(Completion(_reply(text, "").messages, int(rank) if isinstance(rank, int | float) else None, rating,
                               model=model if isinstance(model, str) else None))  # fmt: skip
    return "ranked_list", Preference(_prompt(row).messages, done), Counter()


def _verified(row: Row) -> Found | None:
    dicts = [(name, value) for name, value in row.columns.items() if isinstance(value, Mapping)]
    solutions = [(name, value) for name, value in dicts if {"is_correct", "solution"} <= value.keys()]
    if not solutions or row.name(PROMPT) is None:
        return None
    done = [Completion(_reply(_answer(v["solution"], name), name).messages, good=bool(v["is_correct"]), model=name) for name, v in solutions]
    return "verified_solutions", Preference(_prompt(row).messages, done), Counter()


def _tree(row: Row) -> Found | None:
    root = row.get("prompt")
    if not isinstance(root, Mapping) or not isinstance(root.get("text"), str) or not isinstance(root.get("replies"), list):
        return None
    replies = [reply for reply in root["replies"] if reply.get("text") and not reply.get("deleted")]
    if not replies:
        raise DataError("the tree has no reply to its prompt; drop the row")
    deeper = sum(len(reply.get("replies") or ()) for reply in replies)
    ranks = [None if reply.get("rank") is None else reply["rank"] + 1 for reply in replies]
    done = [Completion([{"role": "assistant", "content": reply["text"]}], rank) for reply, rank in zip(replies, ranks, strict=True)]
    return "reply_tree", Preference([{"role": "user", "content": root["text"]}], done), Counter({"later turns": deeper} if deeper else {})


def _conversation(form: str, talk: Talk) -> Conversation:
    learn = talk.learn if any(mark is not None for mark in talk.learn) else None
    return Conversation(talk.messages, {"form": form, "learn": learn, "ignored": dict(talk.ignored)})


def _system(row: Row) -> Talk:
    talk = Talk()
    if isinstance(system := row.get(*SYSTEM), str) and system.strip():
        talk.add("system", system)
    return talk


def _asked(row: Row) -> tuple[Talk, dict[str, Any]]:
    """What the user says, after the system's message and earlier turns; and its parts, for `meta`."""
    talk, given = _system(row), row.name((*PROMPT, *INPUT)) or ""
    instruction = row.text(given)
    extra = row.name([name for name in INPUT if name != given])
    value = row.columns[extra] if extra else None
    added = "\n".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else ""
    if isinstance(body := row.get("body"), str):  # ASDiv, SVAMP: the story first, then the question
        instruction = f"{body} {instruction}"
    if isinstance(options := row.get("options", "choices"), list) and all(isinstance(option, str) for option in options):
        added = "\n".join([*([added] if added else []), *options])
    history = row.get("history")
    for earlier in history if isinstance(history, list) else ():
        if isinstance(earlier, list | tuple) and len(earlier) == 2:
            talk.add("user", str(earlier[0]))
            talk.add("assistant", str(earlier[1]))
    talk.add("user", f"{instruction}\n\n{added}" if added else instruction)
    return talk, {"instruction": instruction, "input": added, "system": row.get(*SYSTEM)}


def _prompt(row: Row, name: str | None = None) -> Talk:
    """The messages before the answers."""
    if (messages := row.name(MESSAGES)) is not None:
        talk = _system(row)
        talk.extend(read_messages(row.columns[messages], messages))
        return talk
    name = name or row.name((*PROMPT, *INPUT))
    if name is None:
        return Talk()
    if isinstance(row.columns[name], str) and not is_transcript(row.columns[name]):
        return _asked(row)[0]
    talk = _system(row)
    talk.extend(read_messages(row.columns[name], name))
    return talk


def _reply(value: Any, name: str) -> Talk:
    """An answer: a text, a transcript, a message or a list of them, or such a list as JSON."""
    if isinstance(value, str) and not is_transcript(value):
        if value.startswith("[{") and value.endswith("}]"):
            try:
                return read_messages(json.loads(value), name)
            except ValueError:
                pass
        talk = Talk()
        talk.add("assistant", _ended(value))
        return talk
    return read_transcript(value) if isinstance(value, str) else read_messages(value, name)


def _answer(value: Any, name: str) -> str:
    """An answer's text; numbers are written out."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{name}={value!r} is not a text; give one")
    return value if isinstance(value, str) else f"{value:.15g}"


def _ended(text: str) -> str:
    """The text without the end mark that it may close with."""
    return next((text.removesuffix(mark) for mark in END_MARKS if text.endswith(mark)), text)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
