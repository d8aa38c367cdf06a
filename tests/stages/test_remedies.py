"""Remedies side by side: the front, the bars, the lines that make each point, and the whole of it on a few tales."""

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bloomery.cli.main import cli
from bloomery.core.errors import ConfigError
from bloomery.objectives import L2SP, CausalLM
from bloomery.recipe.remedies import remedies
from bloomery.stages.remedies import Comparison, Point, Remedies, Remedy, Scores, beats, line_of
from bloomery.stages.soup import Interpolate
from bloomery.stages.train import Watch
from tests.stages.test_train import TOKENS, training
from tests.stages.test_watched import TALKS, WATCHED

SHARE = st.floats(0.01, 1)


@given(st.lists(st.tuples(SHARE, SHARE), min_size=1, max_size=8))
def test_the_front_is_what_nothing_beats(scores):
    points = [Point(str(i), "", [Scores(old, new)]) for i, (old, new) in enumerate(scores)]
    front = Comparison("", Scores(1.0, 0.0), points).front()
    assert front
    for point in points:
        assert (point in front) != any(beats(other, point) for other in points)
    assert [point.new for point in front] == sorted(point.new for point in front)


def test_what_holds_keeps_the_old_score_at_the_new_one_of_plain_tuning():
    points = [
        Point("plain", "as it is", [Scores(0.5, 0.8), Scores(0.7, 0.9)]), Point("replay", "…", [Scores(0.9, 0.84)]),
        Point("frozen", "…", [Scores(0.95, 0.4)]),
    ]  # fmt: skip
    page = Comparison("title", Scores(0.9, 0.1), points)
    assert [point.name for point in page.holding()] == ["replay"]
    assert [point.name for point in page.front()] == ["frozen", "replay", "plain"]
    told = page.text()
    assert "plain loses 30.0 points of the old task, of 90.0" in told
    assert "60.0% ± 14.1%" in told
    assert "one: replay" in told
    assert page.svg().startswith("<svg")
    assert "<code>as it is</code>" in page.html()


def test_lines_say_what_differs_from_plain_tuning():
    compared = remedies(seeds=1).wanted[0]
    assert isinstance(compared, Remedies)
    lines = {one.name: line_of(one.runs[0], compared.remedies[0].runs[0]) for one in compared.remedies}
    assert lines["plain"] == "as it is"
    assert lines["ewc"].startswith("objective=CausalLM() + EWC(fisher=farm, strength=")
    assert "mixing=Ratio(of={'new': 1.0, 'old': 0.2})" in lines["replay"]
    assert lines["lora"].startswith("adapter=LoRA(")
    assert lines["wise_ft"] == "Interpolate(base=base, tuned=plain_0)"  # half-way is its default


RECIPE = """
from bloomery.recipe import Recipe
from tests.stages.test_remedies import small as compared

def small():
    return Recipe(name="small", wanted=(compared(),))
def nothing():
    return Recipe(name="nothing", wanted=(compared().base,))
"""


def small() -> Remedies:
    fields = WATCHED | {"steps": 1, "watch": Watch()}
    base, tuned = training(name="base", **fields), training(name="plain", **fields | {"seed": 1})
    held = training(name="held", **fields | {"seed": 1, "objective": CausalLM() + L2SP(anchor=base, strength=9.0)})
    between = Interpolate(base=base, tuned=tuned)
    ways = {"plain": tuned, "l2_sp": held, "wise": between}
    return Remedies(title="small", base=base, old=TALKS, new=TALKS, remedies=tuple(Remedy(name=n, runs=(run,)) for n, run in ways.items()))


def test_the_verb_makes_what_is_missing_and_prints_lines_and_files(tmp_path):
    path, options = tmp_path / "small.py", ["--device", "cpu", "--store", str(tmp_path / "store"), "--tracker", "none"]
    path.write_text(RECIPE)
    done = CliRunner().invoke(cli, ["compare-remedies", str(path), *options], catch_exceptions=False)
    for words in ("before tuning", "what makes each point", "objective=CausalLM() + L2SP(anchor=base, strength=9.0)", "remedies.svg"):
        assert words in done.output
    folder = next(path for path in (tmp_path / "store" / "Remedies").glob("main-*") if path.is_dir())
    assert {"remedies.txt", "remedies.html", "remedies.svg", "results.json"} <= {file.name for file in folder.iterdir()}
    with pytest.raises(ConfigError, match="wants no Remedies"):
        CliRunner().invoke(cli, ["compare-remedies", f"{path}:nothing", *options], catch_exceptions=False)


def test_remedies_of_one_name_and_texts_without_answers_are_refused():
    one = small()
    with pytest.raises(ConfigError, match="must have different names"):
        one.replace(remedies=(one.remedies[0], one.remedies[0]))
    with pytest.raises(ConfigError, match="does not say what in it is an answer"):
        one.replace(old=TOKENS)
