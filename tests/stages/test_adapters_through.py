"""Adapters through the stages: trained, interrupted and gone on with, asked, talked to, written out, and read by peft where that has it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bloomery.cli.chat import converse
from bloomery.core.errors import ConfigError
from bloomery.data import Fit
from bloomery.generate import Greedy, complete, stream
from bloomery.models import read_model
from bloomery.nn import SequenceLayout
from bloomery.nn.adapters import Adapter, Bottleneck, DoRA, Int8, PrefixTuning, PromptTuning, PTuning, QLoRA, RsLoRA
from bloomery.optim import AdamW
from bloomery.stages import run
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.export import Export
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Share, Train
from bloomery.store import Artifact, Store
from bloomery.text.tokenizer import Tokenizer
from tests.stages.test_train import MODEL, WEIGHTS, interrupt
from tests.stages.test_watched import ASKED, TALKS, WORDS

BASE = Train(
    name="base", tokenizer=WORDS, init=Scratch(model=MODEL.replace(vocab_size=700, max_seq_len=280)), sources=(Share(tokens=TALKS),),
    packing=Fit(), max_seq_len=256, batch_tokens=512, steps=2, optimizer=AdamW(learning_rate=1e-2), healing=None,
)  # fmt: skip
ADAPTERS: list[Adapter] = [
    RsLoRA(rank=2, targets=("query", "value")), DoRA(rank=2), QLoRA(rank=2, bits=Int8(block=8)), Bottleneck(width=3),
    PromptTuning(n_tokens=4), PTuning(n_tokens=3), PTuning(n_tokens=3, template=(0, 0, 2)), PrefixTuning(n_tokens=2, projection=5),
]  # fmt: skip
OURS_ALONE = [one for one in ADAPTERS if isinstance(one, Bottleneck) or getattr(one, "template", ())]
every = pytest.mark.parametrize("adapter", ADAPTERS, ids=str)


@pytest.fixture(autouse=True)
def unplanned(monkeypatch) -> None:
    """Half of the time of so short a training goes into its plan."""

    def outlook(*_):
        raise RuntimeError

    monkeypatch.setattr(run, "outlook_of", outlook)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, checkpoint_every_s=0.0, trackers=())


def tuned(adapter: Adapter, **changes) -> Train:
    name = f"tuned_{ADAPTERS.index(adapter)}"
    return BASE.replace(**{"name": name, "init": Continue(base=BASE), "adapter": adapter, "steps": 3} | changes)


@every
def test_interrupted_and_gone_on_with_it_ends_in_the_same_bytes(adapter, context, monkeypatch, tmp_path):
    stage, whole = tuned(adapter), tuned(adapter).run(context)
    other = replace(context, store=Store(tmp_path))
    interrupt(monkeypatch, stage, other, after=2)
    again = stage.run(other)
    for name in (WEIGHTS, "adapter/adapter_model.safetensors"):
        assert again.manifest.files[name].sha256 == whole.manifest.files[name].sha256
    assert whole.manifest.summary["trained"] < whole.manifest.summary["parameters"]


@every
def test_it_is_asked_and_talked_to_as_any_other_model(adapter, context, capsys):
    artifact = tuned(adapter).run(context)
    results = Evaluate(model=tuned(adapter), questions=ASKED, limit=3, max_new_tokens=4).run(context).manifest.summary
    assert results["asked"] == 3
    model, tokenizer = read_model(artifact.path / "model")[1].eval(), Tokenizer.load(artifact.path / "tokenizer" / "tokenizer.json")
    prompt = [tokenizer.begin, *tokenizer.encode("Who is there?")]
    (said,) = complete(model, [prompt], {tokenizer.end}, 6, vocab_size=tokenizer.vocab_size)
    assert said == list(stream(model, prompt, Greedy(), {tokenizer.end}, 6, vocab_size=tokenizer.vocab_size))
    capsys.readouterr()
    converse(artifact, temperature=0.0, top_p=1.0, max_new_tokens=6, seed=0, say=("Who is there?",), raw=True)
    assert capsys.readouterr().out == f"Who is there?{tokenizer.decode(said)}\n"


def theirs(artifact: Artifact):
    """What transformers, and peft where there is an adapter, read in an exported folder."""
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    model = transformers.AutoModelForCausalLM.from_pretrained(artifact.path)
    if (artifact.path / "adapter").exists():
        peft = pytest.importorskip("peft", reason="parity needs the peft library")
        model = peft.PeftModel.from_pretrained(model, artifact.path / "adapter")
    return model.eval()


@pytest.mark.parametrize("adapter", [one for one in ADAPTERS if one not in OURS_ALONE], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_written_out_it_says_the_same_in_transformers_and_peft(adapter, context):
    artifact, ids = tuned(adapter).run(context), torch.arange(3, 20)[None]
    exported = theirs(Export(model=tuned(adapter)).run(context))
    model = read_model(artifact.path / "model")[1].eval()
    with torch.no_grad():
        expected, said = model(ids, SequenceLayout.rows(*ids.shape)), exported(input_ids=ids).logits[:, -ids.shape[1] :]
    torch.testing.assert_close(said, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("adapter", "reason"), [*zip(OURS_ALONE, ["peft has no Bottleneck", "all virtual tokens stand before"], strict=True)])
def test_what_nobody_else_reads_is_not_written_out(adapter, reason, context):
    with pytest.raises(ConfigError, match=f"has {adapter.kind()}, which no library on the hub reads as it is: .*{reason}.*; ask it here"):
        Export(model=tuned(adapter)).run(context)
