"""What the Evaluate page is told: the figures of everything that was measured, with their errors; and every answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.evals import questions_of
from bloomery.evals.estimates import Measure
from bloomery.evals.task import Score
from bloomery.stages.alignment.page import Judged, Page
from bloomery.stages.alignment.probe import Figure, Finding
from bloomery.stages.evaluate import conversations
from bloomery.stages.prepare import documents
from bloomery.store import Artifact, Store, read_json
from bloomery.web.admission import RefusedError
from bloomery.web.ui.strips import finished

KINDS = ("Evaluate", "Assess", "Examine", "Alignment")
ANSWERS = {"Evaluate": "answers.jsonl", "Assess": "answers.jsonl", "Examine": "predictions.jsonl"}
RIGHT = ("accuracy", "same_words", "exact")  # numbers of an outcome that say whether it is right
MODELS = ("model", "against")  # how the names of inputs begin that are models
AT_ONCE = 50  # answers
LONGEST = 20_000  # characters of a text that are shown


def evaluations(store: Store) -> list[dict[str, Any]]:
    """All that was measured, the newest first, each with its first figures."""
    return [_told(one) | {"figures": _figures(one)[:4]} for one in _measured(store)]


def evaluation(store: Store, asked: Mapping[str, str]) -> dict[str, Any]:
    """All figures of one, `ref`; what stands beside it; of an `Alignment` its tables and examples."""
    artifact = _found(store, asked)
    page = next((name for name in artifact.manifest.files if name.endswith(".html")), "")
    told = _told(artifact) | {"figures": _figures(artifact), "page": page}
    if artifact.manifest.stage == "Alignment":
        return told | _alignment(artifact)
    lines = list(_answers(artifact))
    groups = dict.fromkeys(line["group"] for line in lines if line["group"])
    return told | {"groups": list(groups), "answers": len(lines), "beside": _beside(store, artifact)}


def answers(store: Store, asked: Mapping[str, str]) -> dict[str, Any]:
    """Some answers of one: those that are wrong, of a group, with some words in them.

    Args:
        store: where it is.
        asked: ref, only ("wrong", "right", ""), group, search, start.
    """
    only, group, words, start = (asked.get(name, "") for name in ("only", "group", "search", "start"))
    found, first, shown, artifact = 0, int(start) if start.isdecimal() else 0, [], _found(store, asked)
    for line in _answers(artifact):
        fits = only not in ("wrong", "right") or line["right"] is (only == "right")
        if not fits or (group and line["group"] != group) or (words and words.casefold() not in _words(line)):
            continue
        if first <= found < first + AT_ONCE:
            shown.append(_cut(line))
        found += 1
    return {"total": found, "start": first, "answers": _with_rows(store, artifact, shown)}


def question(store: Store, asked: Mapping[str, str]) -> dict[str, Any]:
    """The whole conversation before an answer, `id`, of an `Evaluate`, `ref`, and the model that was asked."""
    artifact, id = _found(store, asked), asked.get("id", "")
    inputs = artifact.manifest.inputs
    corpus = store.find(inputs.get("questions", ""))
    if corpus is None:
        raise RefusedError(404, f"{artifact.reference} keeps no conversations, or its questions are no longer in the store")
    document = id.rpartition("#")[0]
    turns = questions_of(one for one in conversations(corpus) if one[0] == document)
    one = next((one for one in turns if one.id == id), None)
    if one is None:
        raise RefusedError(404, f"there is no question {id[:200]!r} in it")
    return {"model": inputs["model"], "messages": [dict(message) for message in one.messages], "expected": one.expected}


def compared(store: Store, asked: Mapping[str, str]) -> list[dict[str, Any]]:
    """What was measured alike of some models, `refs` with commas between them: {"what", "figure", "of": model -> figure with its error}.

    Two measurements are alike if they are of one kind and stand on the same corpora; of several that are, the newest counts. A model that was
    measured while another one was asked beside it counts, too.
    """
    wanted = asked.get("refs", "").split(",")
    rows: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for artifact in _measured(store):
        models = {_name(model): model for model in _models(artifact) if model in wanted}
        on = sorted({one for name, one in artifact.manifest.inputs.items() if not name.startswith(MODELS)})
        for one in _figures(artifact) if models else ():
            if (model := models.get(one["model"])) is not None:
                what = ", ".join((*on, one["what"]))
                rows.setdefault((artifact.manifest.stage, what, one["figure"]), {}).setdefault(model, one)
    return [{"what": what, "figure": figure, "of": of} for (_, what, figure), of in rows.items()]


def _measured(store: Store) -> list[Artifact]:
    return [one for one in reversed(store.artifacts()) if _measures(one)]


def _measures(artifact: Artifact) -> bool:
    return artifact.manifest.stage in KINDS and "results.json" in artifact.manifest.files


def _found(store: Store, asked: Mapping[str, str]) -> Artifact:
    reference = asked.get("ref", "")
    artifact = finished(store, reference)
    if artifact is None or not _measures(artifact):
        raise RefusedError(404, f"the store holds no measurement {reference[:200]!r}")
    return artifact


def _told(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "reference": artifact.reference, "stage": manifest.stage, "name": manifest.name, "models": _models(artifact),
        "started": manifest.made["started"],
    }  # fmt: skip


def _models(artifact: Artifact) -> list[str]:
    return list(dict.fromkeys(one for name, one in artifact.manifest.inputs.items() if name.startswith(MODELS)))


def _name(reference: str) -> str:
    """Of an artifact, from its reference STAGE/NAME-KEY."""
    return reference.partition("/")[2].rpartition("-")[0]


def _figures(artifact: Artifact) -> list[dict[str, Any]]:
    """Each figure with its error, as far as that is known: {"what", "model": its name, "of": both, "figure", "value", "error", "n", "unit"}."""
    results, own = read_json(artifact.file("results.json")), _name(_models(artifact)[0])
    match artifact.manifest.stage:
        case "Evaluate":
            kinds = {kind: Score(round(one["exact"] * one["asked"]), one["asked"]) for kind, one in results["kinds"].items() if kind}
            every = {"all questions": Score(results["right"], results["asked"])} | kinds
            return [_share(own, kind, "exact", score) for kind, score in every.items()]
        case "Assess":
            return [
                {"what": f"{task}, {wording}", "model": model, "of": f"{task}, {wording}" + (f": {model}" if len(of["models"]) > 1 else ""),
                 "figure": name.replace("_", " "), "value": one["value"], "error": one["error"], "n": one["of"], "unit": one["unit"]}
                for task, told in results["tasks"].items() for wording, of in told["prompts"].items()
                for model, figures in of["models"].items() for name, one in figures.items()
            ]  # fmt: skip
        case "Examine":
            n = results.get("labels", 0)
            if "accuracy" in results and n:
                results = results | {"accuracy": Score(round(results["accuracy"] * n), n)}
            return [
                _share(own, "labels", name, value) if isinstance(value, Score) else
                {"what": "labels", "model": own, "of": "labels", "figure": name.replace("_", " "), "value": value, "error": None, "n": n,
                 "unit": ""}
                for name, value in results.items() if isinstance(value, Score | float)
            ]  # fmt: skip
        case _:
            return [
                {"what": probe, "model": model, "of": f"{model}: {probe}", "figure": name, "value": one["value"], "error": one["error"],
                 "n": one["of"], "unit": one["unit"]}
                for model, told in reversed(results.items()) for probe, of in told["probes"].items() for name, one in of["figures"].items()
            ]  # fmt: skip


def _share(model: str, of: str, figure: str, score: Score) -> dict[str, Any]:
    told = {"value": score.share, "error": score.standard_error, "n": score.asked, "unit": "%"}
    return {"what": of, "model": model, "of": of, "figure": figure} | told


def _alignment(artifact: Artifact) -> dict[str, Any]:
    """Each probe before and after each stage of a training: the tables of its page, and what is to be read of each model."""
    results = read_json(artifact.file("results.json"))

    def figure(plain: Mapping[str, Any]) -> Figure:
        values: dict[str, Any] = {**plain, "value": math.nan if plain["value"] is None else plain["value"]}
        return Figure(**values)

    judged = [
        Judged(model, {
            probe: Finding({name: figure(one) for name, one in of["figures"].items()}) for probe, of in told["probes"].items()
        }, [])
        for model, told in results.items()
    ]  # fmt: skip
    examples = [
        {"model": model, "probe": probe, "rows": of["examples"]} for model, told in results.items() for probe, of in told["probes"].items()
        if of["examples"]
    ]  # fmt: skip
    return {"tables": [{"probe": probe, "rows": rows} for probe, rows in Page("", judged).tables()], "examples": examples}


def _answers(artifact: Artifact) -> Iterator[dict[str, Any]]:
    """Every answer in one form, whoever has left it."""
    with open(artifact.file(ANSWERS[artifact.manifest.stage]), encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            numbers = line.get("numbers", {})
            judged = next((numbers[name] >= 1 for name in RIGHT if name in numbers), None)
            told = {"id": line["id"], "choices": line.get("choices", []), "written": line.get("written", ""), "numbers": numbers}
            match artifact.manifest.stage:
                case "Evaluate":
                    yield told | {"group": line["kind"], "right": line["right"], "asked": line["question"], "expected": [line["expected"]],
                                  "said": line["answer"]}  # fmt: skip
                case "Assess":
                    group = f"{line['task']}, {line['prompt']}: {line['model']}"
                    yield told | {"group": group, "right": judged, "asked": line["asked"], "expected": list(line.get("expected", ())),
                                  "said": line.get("said", "")}  # fmt: skip
                case _:
                    expected, said = line.get("expected"), line.get("predicted", line.get("written"))
                    choices = [{"text": str(i + 1), "probability": p} for i, p in enumerate(_softmax(line.get("scores", [])))]
                    yield told | {"group": "", "right": None if isinstance(expected, float) else expected == said, "asked": "",
                                  "expected": [str(expected)], "said": str(said), "choices": choices}  # fmt: skip


def _softmax(scores: Sequence[float]) -> list[float]:
    highest = max(scores, default=0.0)
    parts = [math.exp(score - highest) for score in scores]
    total = sum(parts)
    return [part / total for part in parts]


def _with_rows(store: Store, artifact: Artifact, shown: list[Any]) -> list[Any]:
    """Answers of an `Examine` with the rows that were read and the names of classes, as far as both are still in the store."""
    if artifact.manifest.stage != "Examine" or (rows := store.find(artifact.manifest.inputs.get("rows", ""))) is None:
        return shown
    if (corpus := store.find(rows.manifest.inputs.get("corpus", ""))) is None:
        return shown
    classes, split = rows.manifest.fields["encoding"].get("classes", ()), rows.manifest.fields.get("split", "train")
    wanted, texts = pa.array({one["id"] for one in shown}, pa.string()), dict[str, str]()
    for batch in documents(corpus, "held_out" if split == "held_out" else "documents", ("id", "text")):
        met = batch.filter(pc.is_in(batch["id"], value_set=wanted))
        texts |= zip(met["id"].to_pylist(), met["text"].to_pylist(), strict=True)
    for one in shown:
        one["asked"] = _cut(texts.get(one["id"], ""))
        if len(classes) == len(one["choices"]):
            one["choices"] = [choice | {"text": name} for choice, name in zip(one["choices"], classes, strict=True)]
    return shown


def _cut(told: Any) -> Any:
    """The same with no text longer than is shown."""
    if isinstance(told, str):
        return told if len(told) <= LONGEST else f"{told[:LONGEST]} …"
    if isinstance(told, Mapping):
        return {name: _cut(one) for name, one in told.items()}
    return [_cut(one) for one in told] if isinstance(told, list) else told


def _words(line: Mapping[str, Any]) -> str:
    return "\n".join((line["id"], line["asked"], line["said"], *line["expected"])).casefold()


def _beside(store: Store, artifact: Artifact) -> list[dict[str, Any]]:
    """Other models that were asked the same: their share of right answers, and by how much this one is ahead, question by question."""
    questions = artifact.manifest.inputs.get("questions")
    if artifact.manifest.stage != "Evaluate" or questions is None:
        return []
    own = {line["id"]: line["right"] for line in _answers(artifact)}
    found = []
    for other in _measured(store):
        if other.manifest.stage != "Evaluate" or other.manifest.inputs.get("questions") != questions or other.reference == artifact.reference:
            continue
        theirs = {line["id"]: line["right"] for line in _answers(other)}
        both = [id for id in own if id in theirs]
        if both:
            mine, its = (Measure.mean([float(of[id]) for id in both]) for of in (own, theirs))
            less = mine.less(its)
            found.append(_told(other) | {"value": its.value, "n": len(both), "less": less.plain(), "sure": less.sure})
    return found
