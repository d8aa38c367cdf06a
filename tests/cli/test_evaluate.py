"""`bloomery eval`: tasks from files, dials, wordings, two models; and what is refused."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from tests.evals.small import MODEL, OTHER, left

from bloomery.cli.main import cli
from bloomery.core.errors import BloomeryError, ConfigError

TASK = '''
from bloomery.data.folds import Fold
from bloomery.evals import MultipleChoice, TextLikelihood, Prompt
from bloomery.text.readers import Files, Rows


def colours(*, data: str, name: str = "colours") -> MultipleChoice:
    """Asks --data."""
    return MultipleChoice(name=name, rows=Files(path=data, rows=Rows(form="columns")), examples=Fold(number=0, of=3),
                          prompts=(Prompt(ask="{q}?"), Prompt(name="long", ask="Now {q}?")))


def both(*, data: str):
    """Two tasks."""
    return colours(data=data), TextLikelihood(name="texts", rows=Files(path=data, rows=Rows(form="columns")), text="q")


def nothing():
    """No task."""
    return 3
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    (folder / "colours.py").write_text(TASK)
    rows = [{"q": f"what is {i} of", "choices": ["red", "blue sky"], "gold": i % 2} for i in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    left(folder / "store", "small", MODEL), left(folder / "store", "other", OTHER)
    return folder


def run(place, *arguments):
    result = CliRunner().invoke(cli, ["eval", *arguments, "--store", str(place / "store")], catch_exceptions=True)
    if isinstance(result.exception, BloomeryError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_a_task_is_put_to_a_model_and_its_figures_are_told(place, tmp_path):
    task, data = str(place / "colours.py"), str(place / "rows.jsonl")
    shown = run(place, "Train/small", task, "--data", data, "--output", str(tmp_path / "out")).stdout
    assert "accuracy per byte" in shown
    assert "wordings" not in shown
    more = ("--json", "--variants", "all", "--against", "Train/other")
    found = json.loads(run(place, "Train/small", f"{task}:both", f"--data={data}", *more).stdout)
    assert found["models"] == ["small", "other"]
    assert set(found["tasks"]) == {"colours", "texts"}
    assert set(found["tasks"]["colours"]["prompts"]) == {"plain", "long"}
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["tasks"]["colours"]["prompts"]["plain"]["models"] == {
        "small": found["tasks"]["colours"]["prompts"]["plain"]["models"]["small"]}  # fmt: skip
    assert (tmp_path / "out" / "assessment.html").exists()


def test_options_change_what_is_asked(place):
    common = ("Train/small", str(place / "colours.py"), "--data", str(place / "rows.jsonl"), "--json")

    def accuracy(*more):
        (of_prompt,) = json.loads(run(place, *common, *more).stdout)["tasks"]["colours"]["prompts"].items()
        return of_prompt[0], of_prompt[1]["models"]["small"]["accuracy"]

    name, plain = accuracy()
    assert name == "plain"
    assert accuracy("--limit", "3")[1]["of"] == 3 < plain["of"]
    name, long = accuracy("--variants", "long", "--shots", "1", "--seed", "1")
    assert (name, long["of"]) == ("long", plain["of"])


def test_what_rounding_costs_is_told_beside_the_model_itself(place):
    asked = ("Train/small", str(place / "colours.py:both"), "--data", str(place / "rows.jsonl"), "--against", "Train/small", "--json")
    cost = {}
    for weights in ("bfloat16", "int4"):
        found = json.loads(run(place, *asked, "--weights", weights).stdout)
        assert found["models"] == [f"small {weights}", "small"]
        cost[weights] = abs(found["tasks"]["texts"]["prompts"]["text"]["difference"]["bits_per_byte"]["value"])
    assert 0 < cost["bfloat16"] < cost["int4"]


@pytest.mark.parametrize(("arguments", "said"), [
    (("colours.py", "--dta", "x"), "did you mean"), (("colours.py",), "needs data"), (("none.py",), "there is no task file"),
    (("colours.py:nothing",), "returns int"), (("--data", "x"), "there is no task to put"),
    (("colours.py", "--data", "rows.jsonl", "--variants", "lung"), "it has plain, long"),
    (("colours.py", "--data", "rows.jsonl", "--against", "Train/small"), "is the model itself"),
    (("colours.py", "colours.py", "--data", "rows.jsonl"), "one name"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(place, monkeypatch, arguments, said):
    monkeypatch.chdir(place)
    with pytest.raises(ConfigError, match=said):
        run(place, "Train/small", *arguments)


def test_the_tasks_of_this_house_can_be_made(tmp_path):
    from tests.house.sources import ROOT

    from bloomery.cli.evaluate import tasks_of
    from bloomery.evals import EvalTask

    (tmp_path / "rows.jsonl").write_text("{}\n")
    for file in sorted((ROOT / "recipes" / "tasks").glob("*.py")):
        dials = [] if file.stem == "tales" else ["--data", str(tmp_path / "rows.jsonl")]
        assert all(isinstance(task, EvalTask) for task in tasks_of([str(file), *dials]))


def test_help_has_an_example():
    assert "recipes/tasks/tales.py" in CliRunner().invoke(cli, ["eval", "--help"]).output
