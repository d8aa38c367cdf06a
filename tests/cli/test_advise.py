"""Advice: every line has a number, rules turn where their numbers do, and the recipe runs."""

import json
import re
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from tests.stages.test_train import MODEL, training

from bloomery.cli.main import cli
from bloomery.core.errors import ConfigError
from bloomery.recipe import load_recipe, run
from bloomery.stages.advice import RULES, Measured, advise
from bloomery.stages.advice.rules import adapted, learning_rate, passes
from bloomery.stages.export import Export
from bloomery.stages.init import Scratch
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.text.tales import Tales

M = Measured(
    rows=1000, conversations=1000, turns=1.0, tokens=200_000, learnt=20_000, median=150, p99=250, longest=300, cut=0.0, duplicates=0.0,
    answers=900, characters_per_token=4.0, unknown=0.0,
    bits_per_byte=1.0, bits=40_000.0, params=10_000_000, adapter_params=100_000, max_seq_len=512,
    template=True, seen=1e9, rate=1e-3, bytes_full=1e9, bytes_adapter=5e8, memory=1e10,
)  # fmt: skip
SMALL = training(name="advised_base", steps=2, init=Scratch(model=MODEL.replace(vocab_size=300, max_seq_len=1024)))


def told(measured: Measured) -> dict[str, str]:
    return {line.about: line.advice for line in advise(measured)}


def test_no_line_is_without_a_number():
    worst = replace(M, answers=5, duplicates=0.5, template=False, cut=0.4)
    assert len(advise(worst)) == len(RULES)
    assert all(re.search(r"\d", line.evidence) for line in advise(worst))


@pytest.mark.parametrize(("change", "about", "words"), [
    ({"bits": 1e6}, "adapter", "all weights"), ({"bits": 1e3}, "adapter", "LoRA"), ({"conversations": 0}, "kind", "Plain()"),
    ({"turns": 3.0}, "kind", "multi-turn"), ({"template": False}, "kind", "take the base"), ({"bits_per_byte": 3.0}, "replay", "to 5 new"),
    ({}, "replay", "to 10 new"), ({"bits": 1e9}, "capacity", "grow it"), ({"answers": 4}, "labels", "Classes()"),
    ({"characters_per_token": 1.1}, "vocabulary", "other texts"), ({"memory": 1.0}, "memory", "does not fit"),
    ({"seen": 1e12}, "sizes", "it has seen more"), ({"seen": 1e3}, "sizes", "it has seen less"),
])  # fmt: skip
def test_advice_turns_where_its_number_does(change, about, words):
    assert words in told(replace(M, **change))[about]


def test_an_adapter_learns_ten_times_as_fast_and_more_data_is_read_less_often():
    full = replace(M, bits=1e9)
    assert adapted(M)
    assert not adapted(full)
    assert learning_rate(M) == pytest.approx(10 * learning_rate(full)) == pytest.approx(1e-3)
    assert [passes(replace(M, learnt=n)) for n in (10**5, 10**6, 10**7, 10**9)] == [4, 3, 2, 1]
    assert "labels" not in told(M)
    assert "sizes" not in told(replace(M, seen=None))


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A model in a hub folder, conversations and old text."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("advice")
    model = Export(model=SMALL).run(RunContext(store=Store(folder / "store"), quiet=True)).path
    tales = [Tales(size="tiny").tale(i) for i in range(12)]
    lines = [{"instruction": f"{t.text}\n\n{t.questions[0].text}", "output": t.questions[0].answer} for t in tales]
    (folder / "talks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]))
    (folder / "old.txt").write_text("\n".join(t.text for t in tales))
    return folder, model


def test_the_recipe_runs_as_it_is_told(there, tmp_path):
    folder, model = there
    options = ["--old", str(folder / "old.txt"), "--recipe", str(tmp_path / "advised.py"), "--json"]
    result = CliRunner().invoke(cli, ["advise", str(folder / "talks.jsonl"), str(model), *options], catch_exceptions=False)
    found = json.loads(result.output)
    measured = found["measured"]
    assert (measured["rows"], measured["conversations"], measured["turns"]) == (13, 13, 1.0)
    assert measured["duplicates"] == pytest.approx(1 / 13)
    assert measured["seen"] == 2 * 128  # tokens of the training behind it
    assert measured["bits_per_byte"] > 2  # it has learnt next to nothing
    assert found["recipe"] == (tmp_path / "advised.py").read_text()
    recipe = load_recipe(str(tmp_path / "advised.py")).set({})
    (artifact,) = run(recipe, RunContext(store=Store(tmp_path / "store"), quiet=True, trackers=()))
    assert artifact.manifest.stage == "Train"


def test_plain_text_is_gone_on_with(there, tmp_path):
    folder, model = there
    arguments = ["advise", str(folder / "old.txt"), str(model), "--recipe", str(tmp_path / "advised.py")]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "0% of 1 rows" in " ".join(result.output.split())
    assert f"bloomery run {tmp_path / 'advised.py'}" in result.output
    assert "Chat" not in (tmp_path / "advised.py").read_text()
    load_recipe(str(tmp_path / "advised.py")).set({})


def test_what_is_not_there_is_told(there, tmp_path):
    folder, model = there
    with pytest.raises(ConfigError, match="does not exist"):
        CliRunner().invoke(cli, ["advise", str(folder / "nothing"), str(model)], catch_exceptions=False)
    with pytest.raises(ConfigError, match="Export"):
        CliRunner().invoke(cli, ["advise", str(folder / "talks.jsonl"), str(tmp_path)], catch_exceptions=False)
