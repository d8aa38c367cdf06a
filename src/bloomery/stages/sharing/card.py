"""The card of a model: Markdown below a YAML head, as the hub lays it out: what it is, how it was made and from what, how well it does.

Nothing in it depends on how long something took: the same model has the same card.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.units import human_bytes, human_count
from bloomery.models import ModelConfig
from bloomery.stages.markdown import fenced, plain, table, yaml_head
from bloomery.store import Artifact, Lineage

ADAPTER = "adapter_model.safetensors"  # is among the files where an adapter goes alone
MEASURED = ("held_out/", "suites/", "suite/", "validation/")  # how figures of a training begin that tell how well it does
NUMBERS = ("steps", "tokens", "batch_tokens", "max_seq_len", "precision", "seed")  # fields of a stage that a card tells
VALUES = ("optimizer", "schedule", "objective", "adapter", "change")
PIPELINES = {"CausalLM": "text-generation", "LMHeadModel": "text-generation", "MaskedLM": "fill-mask",
             "ConditionalGeneration": "text2text-generation", "SequenceClassification": "text-classification",
             "TokenClassification": "token-classification", "MultipleChoice": "multiple-choice"}  # fmt: skip
"""How the names of the hub's classes end → its word for what they do."""


@dataclass(frozen=True)
class Told:
    """What a card tells of a model.

    Attributes:
        artifact: what the training left.
        lineage: where it came from, as far as the store has it.
        config: of the model.
        architecture: the hub's class; empty where the hub has none.
        files: what each other file beside the card is, by its name.
        compared: what was read back and compared, in sentences.
        evaluated: artifacts of measurements of this model.
        data: the names of data cards, by the reference of the corpus.
        licence: the hub's word for it; empty where nobody has said.
    """

    artifact: Artifact
    lineage: Lineage
    config: ModelConfig
    architecture: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    compared: Sequence[str] = ()
    evaluated: Sequence[Artifact] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""

    @property
    def adapter(self) -> str:
        """What kind of adapter it is, if it is one without its base; else empty."""
        return self.artifact.manifest.fields.get("adapter", {}).get("kind", "adapter") if ADAPTER in self.files else ""

    @property
    def made_by(self) -> list[Artifact]:
        """The artifacts that it came from, itself last."""
        return list(self.lineage.artifacts().values())


def card(told: Told) -> str:
    """The whole card."""
    name, artifact = told.artifact.manifest.name, told.artifact
    parts = [
        _head(told), f"# {plain(name)}", "", _sentence(told), "",
        "## Using it", "", *_use(told),
        "## What it is", "", *_sizes(told.config),
        "## How it was made", "", *_steps(told),
        "## What it has read", "", *_read(told),
        "## How well it does", "", *_measured(told),
        "## What was compared", "", *([f"- {plain(line)}" for line in told.compared] or ["Nothing was read back."]), "",
        "## What it is not for", "",
        "It says what is likely after what it has read, true or not. What is not measured above is not known of it: measure it on your own "
        "task before you rely on it, and look at what it does to others.", "",
        "## Where it came from", "", *_tree(told.lineage), "", f"`{artifact.reference}`, made with Bloomery "
        f"{artifact.manifest.made['bloomery']} from these settings:", "",
        *fenced(json.dumps(artifact.manifest.fields, indent=2, ensure_ascii=True), "json"),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def pipeline(architecture: str) -> str:
    """The hub's word for what a class of its does; empty where it has none."""
    return next((word for end, word in PIPELINES.items() if architecture.endswith(end)), "")


def _head(told: Told) -> str:
    head: dict[str, Any] = {"library_name": "peft" if told.adapter else "transformers"} if told.architecture or told.adapter else {}
    if word := pipeline(told.architecture):
        head["pipeline_tag"] = word
    if told.licence:
        head["license"] = told.licence
    head["tags"] = ["bloomery"] + (["gguf"] if any(name.endswith(".gguf") for name in told.files) else [])
    results = [
        {"task": {"type": word or "text-generation"}, "dataset": {"name": one.manifest.name, "type": one.reference},
         "metrics": [{"type": name, "value": value} for name, value in _figures(one)]}
        for one in told.evaluated if _figures(one)
    ]  # fmt: skip
    if results:
        head["model-index"] = [{"name": told.artifact.manifest.name, "results": results}]
    return yaml_head(head)


def _sentence(told: Told) -> str:
    trained = [one for one in told.made_by if one.manifest.stage == "Train"]
    tokens = sum(one.manifest.summary.get("tokens", 0) for one in trained)
    what = f"{told.architecture or told.config.kind()} of {human_count(told.config.n_params)} parameters"
    if told.adapter:
        what = f"{told.adapter} for {plain(told.artifact.manifest.inputs.get('init.base', 'its base'))}, a {what}"
    made = f", trained on {human_count(tokens)} tokens" if tokens else ""
    return f"A {what}{made}, by {len(trained)} training{'s' * (len(trained) != 1)}. Made with Bloomery."


def _use(told: Told) -> list[str]:
    if told.adapter:
        return [*fenced(
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
            'base, folder = "BASE", "."  # where its base lies, and this card; or their names on the hub\n'
            "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)",
            "python",
        ), "", *fenced("bloomery import BASE --adapter . && bloomery serve Import/main", "sh"), "", *_files(told), ""]  # fmt: skip
    lines = []
    if pipeline(told.architecture) == "text-generation":
        lines += fenced(
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'folder = "."  # where this card lies, or its name on the hub\n'
            "model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)\n"
            'ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hello!"}], add_generation_prompt=True, return_tensors="pt", '
            "return_dict=True)\n"
            "print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0, ids.input_ids.shape[1]:], skip_special_tokens=True))",
            "python",
        )
        lines += [""]
    gguf = next((name for name in told.files if name.endswith(".gguf")), "")
    lines += fenced("bloomery import . && bloomery serve Import/main" + (f"\nllama-cli -m {gguf}" if gguf else ""), "sh")
    return [*lines, "", *_files(told), ""]


def _files(told: Told) -> list[str]:
    return [f"- `{name}`: {what}" for name, what in told.files.items()]


def _sizes(config: ModelConfig) -> list[str]:
    rows = [("family", config.kind().removesuffix("Config")), ("parameters", f"{config.n_params:,}")]
    named = {"layers": "n_layers", "width": "d_model", "heads": "n_heads", "key-value heads": "n_kv_heads", "width of the feed-forward layers":
             "d_ff", "experts": "n_experts", "tokens in the vocabulary": "vocab_size", "longest text, in tokens": "max_seq_len"}  # fmt: skip
    rows += [(what, f"{value:,}") for what, name in named.items() if isinstance(value := getattr(config, name, None), int)]
    return table(("", ""), rows)


def _steps(told: Told) -> list[str]:
    rows = []
    for one in told.made_by:
        manifest = one.manifest
        if manifest.stage in ("Prepare", "Tokenize"):
            continue
        fields, summary = manifest.fields, manifest.summary
        said = [f"{name} {_short(fields[name])}" for name in NUMBERS if name in fields]
        said += [f"{name} {fields[name]['kind']}" for name in VALUES if isinstance(fields.get(name), dict)]
        tokens = f"{human_count(summary['tokens'])}" if manifest.stage == "Train" and "tokens" in summary else ""
        rows.append((plain(one.reference), tokens, plain(", ".join(said))))
    return table(("stage", "tokens", "with"), rows)


def _read(told: Told) -> list[str]:
    rows = []
    for one in told.made_by:
        manifest = one.manifest
        if manifest.stage != "Prepare":
            continue
        summary = manifest.summary
        funnel = " → ".join(f"{step['filter']} {step['documents_out']:,}" for step in summary.get("funnel", []))
        where = told.data.get(one.reference)
        name = plain(one.reference) if where is None else f"[{plain(one.reference)}]({where})"
        rows.append((name, f"{summary.get('documents', 0):,}", human_bytes(summary.get("bytes", 0)), plain(funnel)))
    if not rows:
        return ["The store no longer has the documents that it was trained on.", ""]
    return ["What came in, and what each filter left:", "", *table(("corpus", "documents", "text", "filters"), rows)]


def _measured(told: Told) -> list[str]:
    rows = [(plain(told.artifact.reference), plain(name), _short(value), "") for name, value in told.artifact.manifest.summary.items()
            if name.startswith(MEASURED) and isinstance(value, int | float)]  # fmt: skip
    for one in told.evaluated:
        error = one.manifest.summary.get("standard_error")
        rows += [
            (plain(one.reference), plain(name), _short(value), f"± {_short(error)}" if error is not None and place == 0 else "")
            for place, (name, value) in enumerate(_figures(one))
        ]  # fmt: skip
    return table(("measured by", "figure", "value", "standard error"), rows) if rows else ["Nothing was measured.", ""]


def _figures(artifact: Artifact) -> list[tuple[str, float]]:
    """The figures of a measurement, without what they rest on."""
    return [(name, value) for name, value in artifact.manifest.summary.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("standard_error", "seconds")]  # fmt: skip


def _tree(lineage: Lineage, depth: int = 0, field: str = "", seen: set[str] | None = None) -> Iterator[str]:
    """The lineage as a list; what stands on it twice is told once."""
    seen = set() if seen is None else seen
    gone = "" if lineage.artifact is not None else " (no longer in the store)"
    again = lineage.reference in seen and bool(lineage.inputs)
    yield f"{'  ' * depth}- {field}`{lineage.reference}`{gone}{' (as above)' * again}"
    if not again:
        seen.add(lineage.reference)
        for name, child in lineage.inputs.items():
            yield from _tree(child, depth + 1, f"{plain(name)}: ", seen)


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
