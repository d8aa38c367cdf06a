"""What a store holds besides: corpora with dropped documents, a model that can be talked to, measurements; with texts that mean harm."""

from __future__ import annotations

import json

from bloomery.models.checkpoint import write_model
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.text.documents import Document, to_batch
from bloomery.text.filters import ExactDuplicates, Length, Normalise
from bloomery.text.readers import Reader
from bloomery.text.readers.reader import warn
from tests.stages.record.corpora import Decontaminating
from tests.web.house import MODEL, TOKENIZER
from tests.web.ui.places import HOSTILE, made

SAME = "The same old story, told once more to whoever listens."
TALK = [{"role": "user", "content": "one and one?"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "and one?"},
        {"role": "assistant", "content": "three"}]  # fmt: skip


class DecontaminateSums(Decontaminating):
    """Drops what holds a sum, as if it were a test item."""

    pattern = r"\d \+ \d"


class Shelf(Reader):
    """Documents of all kinds: short, long, one line of a million signs, hostile, the same again, with a test item."""

    def batches(self, after=None, on_damage=warn):
        texts = [f"Document {i} goes on for a while, and ends where it ends." for i in range(30)]
        texts += ["tiny", "x" * 1_000_000, "tiny " + HOSTILE, HOSTILE * 2, SAME, SAME, SAME + " Or so."]
        texts.append("It is said that 2 + 3 is five, and so on.")
        yield to_batch([Document(f"shelf#L{i}", text, "shelf", None, None) for i, text in enumerate(texts)])


class Talks(Reader):
    """Conversations that are short enough for a small model."""

    def batches(self, after=None, on_damage=warn):
        yield to_batch([Document(f"talk#{i}", "", "talks", TALK, None) for i in range(2)])


def fill(store: Store) -> dict[str, str]:
    """Fills the store; the references of what it made, by what it is."""
    context = RunContext(store=store, quiet=True)
    filters = (Normalise(), Length(min_chars=40, max_chars=400), ExactDuplicates(), DecontaminateSums())
    shelf = Prepare(name="shelf", source=Shelf(), filters=filters, held_out=0.1).run(context).reference
    talks = Prepare(name="talks", source=Talks(), filters=()).run(context).reference
    made(store, "Tokenize/talks-0", {"corpus": talks}, fields={"encoding": {"kind": "Chat"}})
    made(store, "Tokenize/shelf-0", {"corpus": shelf})
    folder = store.workspace("Train/talker-3").path
    write_model(folder / "model", MODEL.config, MODEL)
    TOKENIZER.save(folder / "tokenizer" / "tokenizer.json")
    shares = [{"tokens": {"name": "talks"}}, {"tokens": {"name": "shelf"}, "proportion": 3.0}]
    made(store, "Train/talker-3", {"sources[0].tokens": "Tokenize/talks-0", "sources[1].tokens": "Tokenize/shelf-0"},
         {"parameters": 30_000}, {"sources": shares})  # fmt: skip
    for name, said in (("before-4", "two"), ("after-5", "three")):
        lines = [
            {"id": f"talk#{i}#{turn}", "kind": "sums", "right": said == TALK[turn]["content"], "expected": TALK[turn]["content"],
             "answer": said, "question": TALK[turn - 1]["content"]}
            for i in range(2) for turn in (1, 3)
        ]  # fmt: skip
        odd = {"kind": "odd", "right": said == "three", "expected": "three", "answer": HOSTILE, "question": HOSTILE + "x" * 1_000_000}
        lines.append({"id": f"talk#0#{HOSTILE}", **odd})
        right = sum(line["right"] for line in lines)
        kinds = {"sums": {"exact": 0.5, "asked": 4}, "odd": {"exact": float(said == "three"), "asked": 1}}
        results = {"exact_match": right / 5, "standard_error": 0.2, "right": right, "asked": 5, "kinds": kinds}
        made(store, f"Evaluate/{name}", {"model": "Train/talker-3", "questions": talks}, files=[
            ("answers.jsonl", _lines(lines)), ("results.json", json.dumps(results)),
        ])  # fmt: skip
    figure = {"value": 0.5, "error": 0.1, "low": 0.3, "high": 0.7, "of": 2, "unit": "%"}
    choices = [{"text": HOSTILE, "logprob": -1.0, "probability": 0.75}, {"text": "b", "logprob": -2.0, "probability": 0.25}]
    chosen = {"model": "talker", "task": "chosen", "prompt": "main", "asked": "Which?", "expected": ["b"], "choices": choices}
    lines = [chosen | {"id": id, "said": said, "numbers": {"accuracy": right}} for id, said, right in (("r1", HOSTILE, 0.0), ("r2", "b", 1.0))]
    results = {"title": "", "models": ["talker"], "tasks": {"chosen": {"prompts": {"main": {"models": {"talker": {"accuracy": figure}}}}}}}
    made(store, "Assess/main-6", {"model": "Train/talker-3"}, files=[("answers.jsonl", _lines(lines)), ("results.json", json.dumps(results))])
    probes = {
        model: {"probes": {"questions": {"figures": {"right": {"value": value, "error": 0.1, "of": 9, "unit": "%"}},
                                         "examples": [{"question": HOSTILE, "answer": "two"}]}}, "views": {}}
        for model, value in (("base", 0.25), ("talker", 0.5))
    }  # fmt: skip
    made(store, "Alignment/main-7", {"models[0]": "Train/base-1", "models[1]": "Train/talker-3"}, files=[
        ("results.json", json.dumps(probes)), ("alignment.html", "<!doctype html><h1>Alignment</h1>"),
    ])  # fmt: skip
    return {"shelf": shelf, "talks": talks}


def _lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
