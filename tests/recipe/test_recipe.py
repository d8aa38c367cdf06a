import json
from pathlib import Path

import pytest
from tests.mesh.ranks import CONTEXT
from tests.toys import Grain, Mine, Smelt

from bloomery.core.errors import ArtifactError, ConfigError, DataError, StoppedError
from bloomery.recipe import Recipe, diff, load_recipe, plan, read_lock, run, write_lock
from bloomery.recipe.lock import lock_path
from bloomery.stages.stage import RunContext
from bloomery.store import Store, lineage


def recipe(ore: str = "tin", heat: float = 1.0, size: int = 3) -> Recipe:
    mines = (Mine(name="near", ore=ore, grain=Grain(size=size)), Mine(name="far", ore="lead"))
    return Recipe(name="alloy", wanted=(Smelt(mines=mines, heat=heat),))


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(store=Store(tmp_path / "store"), quiet=True)


def statuses(planned) -> dict[str, str]:
    return {f"{p.stage.kind()}/{p.stage.name}": p.status for p in planned}


def test_stages_come_inputs_first_and_once():
    mine = Mine(ore="tin")
    shared = Recipe(name="r", wanted=(Smelt(mines=(mine, mine)), Smelt(name="hot", mines=(mine,), heat=2)))
    assert [s.reference.split("-")[0] for s in shared.stages()] == ["Mine/main", "Smelt/main", "Smelt/hot"]


def test_two_different_stages_may_not_share_a_name():
    with pytest.raises(ConfigError, match="two different stages called Mine/main; give one of them another name="):
        Recipe(name="r", wanted=(Smelt(mines=(Mine(ore="tin"), Mine(ore="lead"))),))


def test_run_makes_what_is_missing_and_reuses_the_rest(context: RunContext):
    [iron] = run(recipe(), context)
    assert (iron.path / "iron.txt").read_text() == "tintintin+leadleadlead at 1.0"
    first = {a.reference: a.manifest.made for a in context.store.artifacts()}
    run(recipe(heat=2.0), context)
    after = {a.reference: a.manifest.made for a in context.store.artifacts()}
    assert len(after) == 4
    assert all(after[reference] == made for reference, made in first.items())


def test_plan_tells_which_field_moved_and_what_follows(context: RunContext):
    assert statuses(plan(recipe(), context.store)) == {"Mine/near": "build", "Mine/far": "build", "Smelt/main": "build"}
    run(recipe(), context)
    assert set(statuses(plan(recipe(), context.store)).values()) == {"ready"}
    near, far, smelt = plan(recipe(size=5), context.store)
    assert (near.status, far.status, smelt.status) == ("build", "ready", "build")
    assert near.why == "grain.kind: (default) → Grain; grain.size: (default) → 5"
    assert smelt.why == "Mine/near changes"
    assert far.why == ""


def test_plan_says_when_nothing_was_made_or_work_is_unfinished(context: RunContext):
    assert plan(recipe(), context.store)[0].why == "never made here"
    context.store.workspace(recipe().stages()[0].reference)
    assert plan(recipe(), context.store)[0].status == "resume"
    assert plan(recipe(), context.store)[0].why == "unfinished work is there"


def test_plan_touches_nothing(context: RunContext):
    plan(recipe(), context.store)
    assert not context.store.root.exists()


def test_diff_shows_real_changes_only():
    changes = diff(recipe().flat(), recipe(ore="iron", heat=3).flat())
    assert {label: [str(c) for c in found] for label, found in changes.items()} == {
        "Mine/near": ["ore: tin → iron"], "Smelt/main": ["heat: (default) → 3.0"],
    }
    assert diff(recipe().flat(), recipe().flat()) == {}


def test_diff_shows_stages_that_come_and_go():
    smaller = Recipe(name="alloy", wanted=(Mine(name="far", ore="lead"),))
    assert [str(c) for c in diff(smaller.flat(), recipe().flat())["Mine/near"]] [:2] == ["stage: (default) → there", "name: (default) → near"]
    assert str(diff(recipe().flat(), smaller.flat())["Mine/near"][0]) == "stage: there → (default)"


def test_lock_holds_fields_and_checksums(context: RunContext):
    run(recipe(), context)
    path = lock_path(recipe(), context.store)
    assert read_lock(path) == json.loads(json.dumps(recipe().flat()))
    assert all(stage["manifest_sha256"] for stage in json.loads(path.read_text())["stages"].values())
    assert diff(read_lock(path), recipe(heat=2).flat()).keys() == {"Smelt/main"}


@pytest.mark.parametrize(("error", "told"), [
    (DataError("the ore is wet"), "the ore is wet"), (ValueError("no fire"), "ValueError: no fire"), (StoppedError("asked to end"), ""),
    (KeyboardInterrupt(), ""),
])  # fmt: skip
def test_why_a_stage_failed_stays_until_it_is_tried_again(context: RunContext, monkeypatch, error: BaseException, told: str):
    last = recipe().stages()[-1]

    def fails(self, context, inputs, workspace):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Smelt, "work", fails)
        with pytest.raises(type(error)):
            run(recipe(), context)
    assert context.store.failure(last.reference) == told
    run(recipe(), context)
    assert not context.store.failure(last.reference)


def test_the_lock_tells_the_command_that_goes_on(context: RunContext):
    run(recipe(), context, "bloomery run alloy.py --heat 2")
    assert json.loads(lock_path(recipe(), context.store).read_text())["command"] == "bloomery run alloy.py --heat 2"


def test_lock_of_an_interrupted_run_has_no_checksum_for_what_is_missing(context: RunContext):
    stages = json.loads(write_lock(recipe(), context.store).read_text())["stages"]
    assert [stage["manifest_sha256"] for stage in stages.values()] == [None, None, None]


def test_lineage_leads_back_to_every_source_and_verifies(context: RunContext):
    [iron] = run(recipe(), context)
    tree = lineage(iron.reference, context.store)
    assert {field: child.reference.split("-")[0] for field, child in tree.inputs.items()} == {"mines[0]": "Mine/near", "mines[1]": "Mine/far"}
    tree.verify()
    (context.store.path(tree.inputs["mines[1]"].reference) / "ore.txt").write_text("gold")
    with pytest.raises(ArtifactError, match=r"ore\.txt"):
        tree.verify()


def test_lineage_says_where_an_input_is_gone(context: RunContext):
    [iron] = run(recipe(), context)
    near = context.store.path(iron.manifest.inputs["mines[0]"])
    (near / "manifest.json").unlink()
    assert lineage(iron.reference, context.store).inputs["mines[0]"].artifact is None


def _run_in_process(root: Path, barrier) -> None:
    barrier.wait()
    run(recipe(), RunContext(store=Store(root), quiet=True))


def test_two_runs_at_once_do_not_corrupt_each_other(tmp_path: Path):
    barrier = CONTEXT.Barrier(3)
    processes = [CONTEXT.Process(target=_run_in_process, args=(tmp_path, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0, 0]
    store = Store(tmp_path)
    assert len(store.artifacts()) == 3
    for artifact in store.artifacts():
        artifact.verify()
    assert not list(tmp_path.glob("*/*.partial"))


RECIPE_FILE = """
from bloomery.recipe import Recipe
from tests.toys import Mine

def alloy(*, ore: str, size: int = 3, name: str = "main"):
    '''Digs.'''
    return Recipe(name="alloy", wanted=(Mine(name=name, ore=ore),))

def other():
    return Recipe(name="other", wanted=(Mine(ore="salt"),))
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> str:
    path = tmp_path / "alloy.py"
    path.write_text(RECIPE_FILE)
    return str(path)


def test_a_recipe_file_is_loaded_and_its_dials_set(recipe_file: str):
    dials = load_recipe(recipe_file)
    assert dials.defaults() == {"size": 3, "name": "main"}
    assert dials.described == "Digs."
    assert dials.set({"ore": "tin"}).wanted[0].ore == "tin"
    assert load_recipe(f"{recipe_file}:other").set({}).name == "other"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "needs ore; add --ore VALUE"),
        ({"ore": "tin", "sise": "4"}, "no dial 'sise'; did you mean 'size'?"),
        ({"ore": "tin", "qqq": "4"}, "it has ore, size, name"),
        ({"ore": "tin", "size": "big"}, "size='big': input should be a valid integer"),
    ],
)
def test_wrong_dials_are_named_with_the_remedy(recipe_file: str, texts: dict[str, str], words: str):
    with pytest.raises(ConfigError) as error:
        load_recipe(recipe_file).set(texts)
    assert words in str(error.value)


def test_a_missing_recipe_or_function_is_named_with_the_nearest(recipe_file: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"did you mean .*alloy\.py\?"):
        load_recipe(str(tmp_path / "aloy.py"))
    with pytest.raises(ConfigError, match=r"give the path of a \.py file"):
        load_recipe(str(tmp_path / "nowhere" / "x.py"))
    with pytest.raises(ConfigError, match="has no function 'gone'; it has alloy, other"):
        load_recipe(f"{recipe_file}:gone")
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not a Python file"):
        load_recipe(str(tmp_path / "data.json"))
