"""`Fisher`, and trainings whose objective looks back: what comes of them, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file

from bloomery.core.errors import ConfigError
from bloomery.data import Fit, Packed, TokenShards
from bloomery.models import read_model
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import EWC, L2SP, CausalLM
from bloomery.stages.fisher import FILE, Fisher
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Watch
from bloomery.store import Store, read_json
from bloomery.train.fisher import Empirical
from tests.stages.test_train import HELD_OUT, MODEL, TALES, TOKENS, training

BASE = training(name="base", ema=None, watch=Watch(), steps=4)
FISHER = Fisher(model=BASE, tokens=TOKENS, examples=6, max_seq_len=32, estimator=Empirical())
TUNED = {"name": "tuned", "init": Continue(base=BASE), "ema": None, "watch": Watch(), "steps": 6}


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True)


def test_it_is_that_of_the_first_documents_each_by_itself(context):
    artifact = FISHER.run(context)
    _, model = read_model(context.store.open(BASE.reference).path / "model")
    shards = TokenShards.open(context.store.open(TOKENS.reference))
    numbers = {shards.id(d): d for d in range(len(shards))}
    spans = Packed(shards, Fit(window=1), time=32, seed=0).documents(0, 6)
    assert [span.row for span in spans] == list(range(6))  # a document a row
    single = [torch.from_numpy(shards.document(numbers[span.id], 0, 32).astype("int64")) for span in spans]
    squares = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for tokens in single:
        logp = model(tokens[None, :-1], SequenceLayout.rows(1, len(tokens) - 1)).log_softmax(-1)
        nll = -logp.gather(-1, tokens[None, 1:, None]).sum()
        for (name, _), gradient in zip(model.named_parameters(), torch.autograd.grad(nll, list(model.parameters())), strict=True):
            squares[name] += gradient.square()
    weight = sum(len(tokens) - 1 for tokens in single)
    found = load_file(artifact.path / FILE)
    assert found.keys() == squares.keys()
    for name, value in squares.items():
        torch.testing.assert_close(found[name], value / weight, rtol=1e-4, atol=1e-9)
    assert artifact.manifest.summary["tokens"] == weight
    means = read_json(artifact.path / "fisher.json")
    assert list(means.values()) == sorted(means.values(), reverse=True)


def test_tasks_add_up(context):
    second = FISHER.replace(name="second", tokens=HELD_OUT, examples=2, before=FISHER, decay=0.5)
    plain = load_file(FISHER.replace(name="alone", tokens=HELD_OUT, examples=2).run(context).path / FILE)
    first, both = load_file(FISHER.run(context).path / FILE), load_file(second.run(context).path / FILE)
    for name, value in both.items():
        torch.testing.assert_close(value, plain[name] + 0.5 * first[name])


def test_a_strong_penalty_holds_the_weights_of_the_base(context):
    base = dict(read_model(BASE.run(context).path / "model")[1].named_parameters())

    def moved(objective):
        artifact = training(**TUNED, objective=objective).run(context)
        model = read_model(artifact.path / "model")[1]
        return sum(float((p - base[name]).detach().square().sum()) for name, p in model.named_parameters())

    plain = moved(CausalLM())
    assert moved(CausalLM() + L2SP(anchor=BASE, strength=100.0)) < 0.5 * plain
    assert moved(CausalLM() + EWC(fisher=FISHER, strength=1e5)) < 0.9 * plain


def test_the_inputs_of_a_training_are_those_of_its_objective():
    inputs = training(**TUNED, objective=CausalLM() + EWC(fisher=FISHER)).inputs()
    assert {one.reference for one in inputs.values()} >= {BASE.reference, FISHER.reference}


def test_what_cannot_be_looked_back_at_is_refused(context):
    other = TrainTokenizer(name="other", corpora=(TALES,), vocab_size=310)
    tokens = Tokenize(name="others", corpus=TALES, tokenizer=other)
    theirs = training(name="theirs", tokenizer=other, sources=(Share(tokens=tokens),), watch=Watch(), ema=None)
    with pytest.raises(ConfigError, match=r"Train\.objective looks at .*theirs.*, which was trained with TrainTokenizer/other"):
        training(**TUNED, objective=CausalLM() + L2SP(anchor=theirs))
    with pytest.raises(ConfigError, match="add a loss of rows"):
        training(**TUNED, objective=L2SP(anchor=BASE))
    with pytest.raises(ConfigError, match=r"Fisher\.decay=0\.5 is of an earlier"):
        FISHER.replace(decay=0.5)
    wider = training(name="wider", init=Scratch(model=MODEL.replace(vocab_size=330)), watch=Watch(), ema=None)
    with pytest.raises(ConfigError, match=r"LlamaConfig of vocab_size=330, and the model's is 320"):
        training(**TUNED, objective=CausalLM() + L2SP(anchor=wider))

