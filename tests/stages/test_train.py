"""`Train` end to end on a few tales: identity, refusals, artifact, kill and resume, damage, tracing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from bloomery.core.errors import ArtifactError, ConfigError, StoppedError
from bloomery.data import Cut, Fit, MaskedTokens, NextToken, Packed, PrefixLM, SentenceOrder, SpanCorruption
from bloomery.data.tasks import Word
from bloomery.models import LlamaConfig, read_model
from bloomery.objectives import CausalLM, HeadCrossEntropy, ReplacedTokens
from bloomery.optim import Doublings, Muon
from bloomery.stages import run
from bloomery.stages.init import Continue, Hub, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.report.page import training_of
from bloomery.stages.run import Run
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.trace import documents_of_step, train_source
from bloomery.stages.train import Share, Train, Watch
from bloomery.store import Store
from bloomery.text.readers import TaleStories
from bloomery.train import Checkpoints

WEIGHTS = "model/model.safetensors"
MODEL = LlamaConfig(vocab_size=320, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=64)
TALES = Prepare(source=TaleStories(count=60), held_out=0.1)
TOKENIZER = TrainTokenizer(corpora=(TALES,), vocab_size=300)
TOKENS = Tokenize(corpus=TALES, tokenizer=TOKENIZER)
HELD_OUT = Tokenize(name="aside", corpus=TALES, tokenizer=TOKENIZER, split="held_out")


def training(**changes) -> Train:
    fields = {
        "tokenizer": TOKENIZER, "init": Scratch(model=MODEL), "sources": (Share(tokens=TOKENS),), "max_seq_len": 32, "batch_tokens": 128,
        "steps": 12, "ema": 0.9, "watch": Watch(held_out=(HELD_OUT,), prompts=("Once",), every=5, tokens=512, max_new_tokens=4),
    }  # fmt: skip
    return Train(**fields | changes)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)  # tiny shapes: a second thread would only wait
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, checkpoint_every_s=0.0)


@pytest.fixture(scope="module")
def artifact(context):
    return training().run(context)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def interrupt(monkeypatch, stage, context, after):
    """Runs a training up to a checkpoint after `after` steps, as if the process had died there."""

    def save(self, state, save=Checkpoints.save):
        save(self, state)
        if state.step == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(KeyboardInterrupt):
            stage.run(context)
    return context.store.path(stage.reference + ".partial")


def test_the_artifact_holds_model_tokenizer_metrics_and_samples(artifact, context):
    files = set(artifact.manifest.files)
    assert {WEIGHTS, "model/config.json", "tokenizer/tokenizer.json", "metrics.jsonl", "samples.jsonl"} <= files
    assert any(name.startswith("tensorboard/") for name in files)
    assert not any("checkpoint" in name for name in files)
    steps = [line["step"] for line in lines(artifact.path / "metrics.jsonl") if "loss" in line]
    assert steps == list(range(1, 13))
    assert sum("update_norm" in line for line in lines(artifact.path / "metrics.jsonl")) == 11  # of each update but the last
    config, model = read_model(artifact.path / "model")
    assert config == MODEL
    assert artifact.manifest.summary["parameters"] == sum(p.numel() for p in model.parameters())
    assert artifact.manifest.summary["tokens"] == 12 * 128


def test_what_was_planned_stands_beside_what_was_measured(artifact):
    plan = artifact.manifest.summary["plan"]
    assert plan["weights"] == {"planned": 4 * artifact.manifest.summary["parameters"], "measured": plan["weights"]["planned"], "ratio": 1}
    assert plan["optimizer"]["ratio"] == 1  # moments, average, and what updates are taken back to
    assert plan["tokens_per_s"]["measured"] == artifact.manifest.summary["tokens_per_s"]
    assert plan["tokens_per_s"]["ratio"] == pytest.approx(plan["tokens_per_s"]["measured"] / plan["tokens_per_s"]["planned"], abs=1e-4)
    assert plan["resident"]["planned"] > plan["weights"]["planned"] + plan["optimizer"]["planned"]
    resident = plan["resident"]  # of which a process that has trained before may have had some already
    assert resident["ratio"] == pytest.approx(resident["measured"] / resident["planned"], abs=1e-4)
    assert [row[0] for row in training_of(artifact).plan] == ["speed", "resident memory at its most", "weights", "optimiser"]


def test_a_plan_that_cannot_be_made_is_said_and_ends_no_training(context, tmp_path, monkeypatch, capsys):
    def outlook(*_):
        raise RuntimeError("not on tensors without memory")

    monkeypatch.setattr(run, "outlook_of", outlook)
    made = training(steps=1, watch=Watch()).run(replace(context, store=Store(tmp_path), quiet=False))
    assert "no plan can be made (RuntimeError: not on tensors without memory)" in capsys.readouterr().out
    assert "plan" not in made.manifest.summary
    assert training_of(made).plan == []


def test_held_out_text_and_prompts_are_watched_from_step_0_to_the_end(artifact):
    measured = {x["step"]: x["held_out/aside/bits_per_byte"] for x in lines(artifact.path / "metrics.jsonl") if "loss" not in x}
    assert list(measured) == [0, 5, 10, 12]
    assert measured[12] < measured[0]
    assert artifact.manifest.summary["held_out/aside/bits_per_byte"] == measured[12]
    assert [(x["step"], x["prompt"]) for x in lines(artifact.path / "samples.jsonl")] == [(step, "Once") for step in (0, 5, 10, 12)]


def test_bits_per_byte_are_those_of_the_kept_weights_by_the_book(artifact, context):
    from bloomery.data import TokenShards
    from bloomery.stages.tokenizer import load_tokenizer
    from bloomery.train.watch import held_out

    _, model = read_model(artifact.path / "model")
    shards, tokenizer = TokenShards.open(context.store.open(HELD_OUT.reference)), load_tokenizer(context.store.open(TOKENIZER.reference))
    everything = held_out(model, shards, tokenizer, time=64, tokens=10**9, rows=3)
    nats = size = 0.0
    from bloomery.data import Packed

    for batch in Packed(shards, Cut(), time=64, seed=0).once(1):
        logp = model(batch.tokens, batch.layout).log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
        nats -= (logp * batch.loss_weight).sum().item()
    size = shards.bytes
    assert everything["bits_per_byte"] == pytest.approx(nats / (0.6931471805599453 * size), rel=1e-4)


def test_interrupted_and_resumed_equals_uninterrupted_bitwise(artifact, context, tmp_path, monkeypatch):
    other = replace(context, store=Store(tmp_path))
    interrupt(monkeypatch, training(), other, after=4)
    partial = interrupt(monkeypatch, training(), other, after=7)
    assert lines(partial / "metrics.jsonl")[-1]["step"] == 7
    resumed = training().run(other)
    assert resumed.manifest.files[WEIGHTS].sha256 == artifact.manifest.files[WEIGHTS].sha256
    ours, theirs = (lines(a.path / "metrics.jsonl") for a in (resumed, artifact))
    timeless = [[{k: v for k, v in x.items() if k not in ("tokens_per_s", "utilisation")} for x in both] for both in (ours, theirs)]
    assert timeless[0] == timeless[1]
    assert resumed.manifest.files["samples.jsonl"].sha256 == artifact.manifest.files["samples.jsonl"].sha256


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from dataclasses import replace
from tests.stages.test_train import *
training().run(RunContext(store=Store(sys.argv[1]), quiet=True, checkpoint_every_s=0.0))
"""


def test_killed_process_goes_on_to_the_same_weights(artifact, tmp_path):
    store = Store(tmp_path)
    metrics = store.path(training().reference + ".partial") / "metrics.jsonl"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=os.getcwd())
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) >= 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = training().run(RunContext(store=store, quiet=True))
    assert resumed.manifest.files[WEIGHTS].sha256 == artifact.manifest.files[WEIGHTS].sha256


def test_a_run_that_is_asked_to_end_saves_leaves_and_goes_on(artifact, context, tmp_path, monkeypatch):
    other, before = replace(context, store=Store(tmp_path), checkpoint_every_s=1000.0), signal.getsignal(signal.SIGTERM)

    def record(self, report, progress, record=Run.record):
        record(self, report, progress)
        if report.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "record", record)
        with pytest.raises(StoppedError, match="asked to end, saved at step 6; the same command goes on") as stopped:
            training().run(other)
    assert stopped.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is before
    partial = context.store.path(training().reference + ".partial").relative_to(context.store.root)
    assert [path.name for path in (tmp_path / partial / "checkpoints").iterdir()] == ["step-00000006"]
    assert training().run(other).manifest.files[WEIGHTS].sha256 == artifact.manifest.files[WEIGHTS].sha256


def test_checkpoints_that_are_kept_for_good_stay_in_the_artifact(artifact, context, tmp_path):
    kept = training().run(replace(context, store=Store(tmp_path), checkpoint_every_s=0.0, keep_every=5))
    found = {name.split("/")[1] for name in kept.manifest.files if name.startswith("checkpoints/")}
    assert found == {"step-00000005", "step-00000010"}
    assert kept.manifest.files[WEIGHTS].sha256 == artifact.manifest.files[WEIGHTS].sha256


def test_a_damaged_checkpoint_is_said_and_the_weights_are_still_the_same(artifact, context, tmp_path, monkeypatch, capsys):
    other = replace(context, store=Store(tmp_path), quiet=False)
    partial = interrupt(monkeypatch, training(), other, after=7)
    damaged = partial / "checkpoints" / "step-00000007" / "rank-00000.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 4
    damaged.write_bytes(data)
    resumed = training().run(other)
    out = capsys.readouterr().out
    assert "step-00000007/rank-00000.safetensors is damaged" in out
    assert "going on from step 6" in out
    assert resumed.manifest.files[WEIGHTS].sha256 == artifact.manifest.files[WEIGHTS].sha256


def test_a_run_killed_after_its_last_step_only_finishes(artifact, context, tmp_path, monkeypatch):
    other = replace(context, store=Store(tmp_path))
    interrupt(monkeypatch, training(), other, after=12)
    assert training().run(other).manifest.files[WEIGHTS].sha256 == artifact.manifest.files[WEIGHTS].sha256


def test_micro_batches_change_the_final_loss_by_rounding_only(artifact, context, tmp_path):
    stage = training(ema=None, watch=Watch())
    found = []
    for micro_batch in (1, 4):
        other = replace(context, store=Store(tmp_path / str(micro_batch)), micro_batch=micro_batch)
        found.append(stage.run(other).manifest.summary["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_trace_names_the_documents_of_the_batch(artifact, context):
    spans = documents_of_step(artifact, 3)
    assert {span.row for span in spans} == set(range(8, 12))
    assert {span.source for span in spans} == {"main"}
    source = training().source(_inputs(context))
    assert spans == source.documents(8, 4)
    assert train_source(artifact).sequence_hash(0, 40) == source.sequence_hash(0, 40)
    with pytest.raises(ConfigError, match="1 to 12"):
        documents_of_step(artifact, 13)


def test_a_training_along_a_ramp_counts_its_tokens_and_is_traced(context):
    stage = training(name="ramped", ramp=Doublings(at=(2, 4)), steps=None, tokens=500, watch=Watch(), ema=None)
    assert (stage.total_steps, stage.total_rows) == (7, 2 * 1 + 2 * 2 + 3 * 4)  # of 32 tokens each: 500 are reached in the last
    artifact = stage.run(context)
    assert artifact.manifest.summary["tokens"] == stage.total_rows * 32 >= 500
    rows = [{span.row for span in documents_of_step(artifact, step)} for step in range(1, stage.total_steps + 1)]
    assert rows[:5] == [{0}, {1}, {2, 3}, {4, 5}, {6, 7, 8, 9}]
    with pytest.raises(ConfigError, match=r"Doublings\.at=\(1, 2, 3\) halves a batch of 4 rows"):
        training(ramp=Doublings(at=(1, 2, 3)))


def _inputs(context):
    from bloomery.stages.stage import Inputs

    return Inputs({TOKENS.reference: context.store.open(TOKENS.reference)})


def test_a_model_that_is_no_training_cannot_be_traced(context, artifact):
    with pytest.raises(ArtifactError, match="not a training"):
        train_source(context.store.open(TOKENS.reference))


def test_tuning_goes_on_from_the_base_with_a_mixture(artifact, context):
    second = Tokenize(name="again", corpus=TALES, tokenizer=TOKENIZER)
    tuned = training(
        name="tuned", init=Continue(base=training()), packing=Fit(), sources=(Share(tokens=TOKENS), Share(tokens=second, proportion=0.5)),
        optimizer=Muon(), objective=CausalLM(z_loss=1e-4), steps=None, tokens=300, watch=Watch(),
    ).run(context)  # fmt: skip
    assert tuned.manifest.summary["steps"] == 3
    assert tuned.manifest.inputs["init.base"] == training().reference
    first, base_first = (next(x["nll"] for x in lines(a.path / "metrics.jsonl") if "nll" in x) for a in (tuned, artifact))
    assert first < base_first - 0.05  # it goes on where the base ended
    assert {span.source for step in (1, 2, 3) for span in documents_of_step(tuned, step)} == {"main", "again"}


def test_a_hub_folder_counts_by_its_contents(artifact, context, tmp_path):
    from bloomery.core.identity import content_key
    from bloomery.models.hub import save_hub

    config, model = read_model(artifact.path / "model")
    for name in ("here", "there"):
        save_hub(model, config, tmp_path / name)
    here, there = Hub(path=tmp_path / "here"), Hub(path=tmp_path / "there")
    assert content_key(here) == content_key(there)
    with torch.no_grad():
        model.norm.weight += 1
    save_hub(model, config, tmp_path / "there")
    assert content_key(Hub(path=tmp_path / "there")) != content_key(here)
    tuned = training(name="hub", init=here, steps=2, watch=Watch()).run(context)
    assert tuned.manifest.summary["steps"] == 2


@pytest.mark.parametrize(("changes", "message"), [
    ({"batch_tokens": 100}, "batch_tokens=100 is not a multiple of max_seq_len=32; 96 or 128 would"),
    ({"batch_tokens": 20}, "32 would"),
    ({"max_seq_len": 128}, "max_seq_len=128 is longer than the model's max_seq_len=64"),
    ({"tokens": 100}, "give one of them"),
    ({"steps": None}, "give one of them"),
    ({"sources": ()}, "sources"),
    ({"sources": (Share(tokens=TOKENS), Share(tokens=TOKENS))}, "two corpora named 'main'"),
    ({"init": Scratch(model=MODEL.replace(vocab_size=280))}, "vocab_size=280 is less than the tokenizer's vocab_size=300"),
    ({"tokenizer": TrainTokenizer(corpora=(TALES,), vocab_size=290)}, "use one tokenizer"),
])  # fmt: skip
def test_what_cannot_be_is_refused_when_built(changes, message):
    with pytest.raises(ConfigError, match=message):
        training(**changes)


def test_what_changes_the_numbers_changes_the_key():
    changes = ({}, {"precision": "bf16"}, {"batch_tokens": 256}, {"seed": 1}, {"packing": Fit()}, {"optimizer": Muon()})
    assert len({training(**change).key for change in changes}) == 6
    assert training(clip_norm=1.0).key == training().key


TASKS_VOCAB = 340


def encoder(**changes):
    from bloomery.models import BertConfig

    return BertConfig(**{"vocab_size": TASKS_VOCAB, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32, "max_seq_len": 64} | changes)


def writer(**changes):
    from bloomery.models import T5Config

    return T5Config(**{"vocab_size": TASKS_VOCAB, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32, "max_seq_len": 64} | changes)


WATCHED = Watch(held_out=(HELD_OUT,), tokens=512)


@pytest.mark.parametrize(("task", "model"), [
    (MaskedTokens(by=Word()), encoder), (SpanCorruption(), writer),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in ((SentenceOrder(), encoder), (PrefixLM(), lambda: MODEL))),
], ids=lambda value: str(getattr(value, "kind", lambda: "")()))  # fmt: skip
def test_every_task_trains_resumes_and_is_traced(task, model, context, tmp_path, monkeypatch):
    stage = training(task=task, init=Scratch(model=model()), watch=WATCHED, ema=None)
    whole = stage.run(context)
    other = replace(context, store=Store(tmp_path))
    interrupt(monkeypatch, stage, other, after=7)
    assert stage.run(other).manifest.files[WEIGHTS].sha256 == whole.manifest.files[WEIGHTS].sha256
    summary = whole.manifest.summary
    assert summary["held_out/aside/loss"] == pytest.approx(summary["held_out/aside/nll"])
    assert ("held_out/aside/masked_perplexity" in summary) == task.both_ways
    assert "held_out/aside/bits_per_byte" not in summary
    assert train_source(whole).sequence_hash(0, 12) == stage.source(_inputs(context)).sequence_hash(0, 12)


@pytest.mark.parametrize(("changes", "message"), [
    ({"task": MaskedTokens()}, "Train.task=MaskedTokens .* Train.init's LlamaConfig only sees what comes before; take an encoder"),
    ({"init": Scratch(model=encoder())}, "Train.task=NextToken .* Train.init's BertConfig sees what comes after; take MaskedTokens"),
    ({"task": SpanCorruption(), "init": Scratch(model=encoder())}, "gives a passage, which Train.init's BertConfig cannot read; take an enc"),
    ({"init": Scratch(model=writer())}, "Train.task=NextToken gives no passage, without which Train.init's T5Config cannot read; take Span"),
    ({"task": MaskedTokens(), "init": Scratch(model=encoder(vocab_size=300))},
     "needs 1 ids above the tokenizer's vocab_size=300, for which Train.init: the model's vocab_size=300 has no room; give the model 301"),
    ({"task": SpanCorruption(), "init": Scratch(model=writer(vocab_size=302))}, "needs 3 ids above .* give the model 303"),
    ({"task": SpanCorruption(rate=0.9, mean_length=1), "init": Scratch(model=writer(vocab_size=400, max_seq_len=33))},
     "gives SpanCorruption rows of"),
    ({"task": MaskedTokens(), "init": Scratch(model=encoder()), "watch": Watch(prompts=("Once",))}, "Train.watch.prompts .* leave them out"),
])  # fmt: skip
def test_tasks_and_models_that_do_not_fit_are_refused_when_built(changes, message):
    with pytest.raises(ConfigError, match=message):
        training(**{"watch": Watch()} | changes)


def test_a_task_that_is_the_default_leaves_the_key_alone():
    assert training(task=NextToken()).key == training().key != training(task=PrefixLM()).key


def pair(**changes):
    from bloomery.models import ElectraConfig, ElectraPairConfig

    sizes = {"vocab_size": TASKS_VOCAB, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32, "max_seq_len": 64, "d_embedding": 16} | changes
    return ElectraPairConfig(generator=ElectraConfig(**sizes), discriminator=ElectraConfig(**sizes | {"d_model": 24}))


def ordering():
    from bloomery.models import AlbertConfig, SequenceClassificationConfig, TaskConfig

    sizes = {"vocab_size": TASKS_VOCAB, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32, "max_seq_len": 64, "d_embedding": 8}
    return TaskConfig(base=AlbertConfig(**sizes), heads=(SequenceClassificationConfig(name="order", n_labels=2),), language_head=True)


@pytest.mark.parametrize(("task", "objective", "model", "measured"), [
    (MaskedTokens(keep=0, random=0), ReplacedTokens(), pair, {"nll", "detection", "detected", "replaced", "masked_perplexity"}),
    (SentenceOrder(), CausalLM() + HeadCrossEntropy(head="order"), ordering, {"nll", "order/nll", "order/right", "masked_perplexity"}),
], ids=("electra", "albert"))  # fmt: skip
def test_pretraining_by_terms_is_measured_term_by_term_and_micro_batches_change_nothing(task, objective, model, measured, context, tmp_path):
    stage, found = training(task=task, objective=objective, init=Scratch(model=model()), watch=WATCHED, ema=None, steps=5), []
    for micro_batch in (1, 4):
        other = replace(context, store=Store(tmp_path / str(micro_batch)), micro_batch=micro_batch)
        found.append(stage.run(other))
    whole, parts = (lines(a.path / "metrics.jsonl") for a in found)
    for a, b in zip(whole, parts, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"tokens_per_s", "utilisation"}:
            assert a[name] == pytest.approx(b[name], rel=1e-4), name
    assert measured - {"masked_perplexity"} <= {*whole[-2]}
    assert {f"held_out/aside/{name}" for name in measured} <= {*whole[-1]}


def test_a_bad_step_is_survived_told_and_reported(context, tmp_path, monkeypatch, capsys):
    """A document that breaks the loss: `<b>` in it must not become markup."""
    spoilt = {}

    def rows(self, first_row, rows):
        out = whole(self, first_row, rows)
        if first_row <= 9 < first_row + rows:
            out.loss_weight[9 - first_row, 0] = np.inf
            spoilt["id"] = self.documents(9, 1)[0].id
        return out

    whole = Packed.rows
    monkeypatch.setattr(Packed, "rows", rows)
    other = replace(context, store=Store(tmp_path), quiet=False)
    healed = training(name="healed", watch=Watch()).run(other)
    assert healed.manifest.summary["healing"] == {"bad_steps": 1, "skip": 1, "jumps": []}
    told = f"its update is not made; what stands out in its batch: {spoilt['id']}"
    assert f"step 3: the loss or the norm of the gradient is not finite; {told}" in capsys.readouterr().out
    (line,) = [line for line in lines(healed.path / "metrics.jsonl") if "healing" in line]
    assert [found["id"] for found in line["healing"][0]["documents"]] == [spoilt["id"]]
    assert "loss" not in line
    for name in ("healing.md", "healing.html"):
        assert spoilt["id"] in (healed.path / name).read_text()
    assert healed.manifest.summary["steps"] == 12
