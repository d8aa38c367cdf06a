"""`Convert`: an artifact like a training's, to go on from; the same bytes after any interruption; refusals before anything is run."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.models import LlamaConfig, read_model
from bloomery.models.growth import Deepen, Duplicate, GroupHeads, Widen
from bloomery.recipe import Recipe, plan
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.convert import Convert
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.export import Export
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.stage import RunContext
from bloomery.stages.trace import documents_of_step
from bloomery.stages.train import Share, Train
from bloomery.store import Store, lineage

MODEL = LlamaConfig(vocab_size=320, d_model=16, n_layers=2, n_heads=4, d_ff=32, max_seq_len=32)
TALES = tale_tokens(count=60, vocab_size=300)
CHANGES = (Deepen(n_layers=3), Widen(d_model=24, n_heads=6), Duplicate(n_layers=3), GroupHeads(n_kv_heads=1))


def training(**changes) -> Train:
    fields = {
        "tokenizer": TALES.tokenizer, "init": Scratch(model=MODEL), "sources": (Share(tokens=TALES.read),), "max_seq_len": 32,
        "batch_tokens": 64, "steps": 3,
    }  # fmt: skip
    return Train(**fields | changes)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.kind())
def test_the_artifact_is_a_model_with_its_tokenizer_and_figures(context, change):
    base, stage = training(), Convert(base=training(), change=change)
    artifact = stage.run(context)
    old = base.run(context)
    assert set(artifact.manifest.files) == {"model/config.json", "model/model.safetensors", "tokenizer/tokenizer.json"}
    assert artifact.manifest.files["tokenizer/tokenizer.json"] == old.manifest.files["tokenizer/tokenizer.json"]
    config, model = read_model(artifact.path / "model")
    assert config == stage.architecture == change.config_of(MODEL)
    summary = artifact.manifest.summary
    assert (summary["parameters_before"], summary["parameters"]) == (MODEL.n_params, sum(p.numel() for p in model.parameters()))
    assert (summary["difference"] <= 1e-5) == change.keeps_function


def test_conversions_are_converted_trained_on_exported_and_traced(context):
    twice = Convert(name="twice", base=Convert(base=training(), change=Deepen(n_layers=3)), change=GroupHeads(n_kv_heads=2))
    on = training(name="on", init=Continue(base=twice))
    artifact = on.run(context)
    config, _ = read_model(artifact.path / "model")
    assert (config.n_layers, config.n_kv_heads) == (3, 2)
    assert artifact.manifest.inputs["init.base"] == twice.reference
    assert Export(model=twice).run(context).manifest.summary["n_params"] == config.n_params
    assert documents_of_step(artifact, 2)
    tree = lineage(artifact.reference, context.store)
    tree.verify()
    assert [tree.inputs["init.base"].reference, tree.inputs["init.base"].inputs["base"].inputs["base"].reference] == [
        twice.reference, training().reference,
    ]  # fmt: skip
    assert Evaluate.model_fields["model"].annotation is Export.model_fields["model"].annotation  # any trained model is asked, too


def test_interrupted_while_writing_it_ends_in_the_same_bytes(context, tmp_path, monkeypatch):
    import bloomery.stages.convert as module

    stage = Convert(base=training(), change=Widen(d_model=24, n_heads=6))
    whole = stage.run(context)
    other = RunContext(store=Store(tmp_path), quiet=True)
    training().run(other)

    def torn(folder, config, model, write=module.write_model):
        write(folder, config, model)
        (folder / "model.safetensors").write_bytes(b"torn")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_model", torn)
        with pytest.raises(KeyboardInterrupt):
            stage.run(other)
    assert other.store.find(stage.reference) is None
    assert stage.run(other).manifest.files == whole.manifest.files


def test_a_plan_tells_the_parameters_before_and_after(context):
    stage = Convert(base=training(), change=Deepen(n_layers=4))
    assert stage.estimate() == "10.3k parameters become 15.5k"
    assert [row.stage for row in plan(Recipe(name="r", wanted=(stage,)), context.store)][-1] == stage


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Deepen(n_layers=2), r"Deepen.n_layers=2 is not more than the n_layers=2 of the model; 3 would be"),
        (GroupHeads(n_kv_heads=3), r"GroupHeads.n_kv_heads=3 cannot be made of n_kv_heads=4 in equal groups; possible: 1, 2"),
        (Widen(d_model=8), r"Widen.d_model=8 is less than the d_model=16 of the model"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_run(change, words):
    with pytest.raises(ConfigError, match=words):
        Convert(base=training(), change=change)


def test_another_tokenizer_is_refused_when_going_on():
    other = tale_tokens(count=60, vocab_size=310)
    with pytest.raises(ConfigError, match=r"Train.init.base was trained with TrainTokenizer"):
        training(
            tokenizer=other.tokenizer, sources=(Share(tokens=other.read),),
            init=Continue(base=Convert(base=training(), change=Deepen(n_layers=3))),
        )


def test_a_damaged_base_is_told(context, tmp_path):
    other = RunContext(store=Store(tmp_path), quiet=True)
    base = training().run(other)
    (base.path / "model" / "model.safetensors").write_bytes(b"rust")
    with pytest.raises(ArtifactError, match="model.safetensors"):
        Convert(base=training(), change=Deepen(n_layers=3)).run(other)
