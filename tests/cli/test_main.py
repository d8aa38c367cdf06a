import functools
import http.server
import json
import sys
import threading
from pathlib import Path

import pytest
from tests import commands

from bloomery.cli.main import main
from bloomery.text.readers import Files

ROOT = Path(__file__).parents[2]
RECIPE = """
from bloomery.recipe import Recipe
from tests.toys import Grain, Mine, Smelt

def alloy(*, ore: str = "tin", heat: float = 1.0):
    '''Smelts two ores.'''
    mines = (Mine(name="near", ore=ore), Mine(name="far", ore="lead"))
    return Recipe(name="alloy", wanted=(Smelt(mines=mines, heat=heat),))
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "alloy.py").write_text(RECIPE)
    return tmp_path


def bloomery(here: Path, *arguments: str, code: int = 0) -> str:
    """What the command prints; its exit code must be `code`, and a traceback is never shown."""
    done = commands.bloomery(*arguments, cwd=here, environment={"PYTHONPATH": f"{ROOT}/src:{ROOT}", "PATH": "/usr/bin:/bin", "COLUMNS": "200"})
    assert done.returncode == code, done.stderr or done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_help_shows_every_verb_with_a_line(here: Path):
    text = bloomery(here, "--help")
    verbs = ("plan", "size", "doctor", "run", "pretrain", "show", "diff", "trace", "crawl", "inspect", "chat", "generate", "serve")
    assert all(f"  {verb}" in text for verb in verbs)


@pytest.mark.parametrize("verb", ["plan", "size", "run", "pretrain", "show", "diff", "trace", "crawl", "chat", "generate", "serve"])
def test_help_of_each_verb_has_an_example(here: Path, verb: str):
    assert f"Example: bloomery {verb}" in " ".join(bloomery(here, verb, "--help").split())


def test_plan_run_plan_show_diff(here: Path):
    assert "3 of 3 stages would be made" in bloomery(here, "plan", "alloy.py")
    assert not (here / "store").exists()
    assert "mines: 2" in bloomery(here, "run", "alloy.py", "--ore", "salt")
    assert json.loads((here / "store" / "alloy.lock.json").read_text())["command"] == "bloomery run alloy.py --ore salt"
    assert "a run would make nothing" in bloomery(here, "plan", "alloy.py", "--ore=salt")
    changed = bloomery(here, "plan", "alloy.py", "--ore", "salt", "--heat", "2")
    assert "heat: (default) → 2.0" in changed
    assert "1 of 3 stages would be made" in changed
    tree = bloomery(here, "show", "Smelt", "--verify")
    assert all(part in tree for part in ("Smelt/main-", "mines[0]: Mine/near-", "mines[1]: Mine/far-"))
    assert "Mine/far-" in bloomery(here, "show")
    assert "ore: salt → gold" in bloomery(here, "diff", "store/alloy.lock.json", "alloy.py", "--ore", "gold")
    assert "no field differs" in bloomery(here, "diff", "alloy.py", "alloy.py")


def test_an_empty_store_says_what_to_do(here: Path):
    assert "bloomery run" in bloomery(here, "show")


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("run", "aloy.py"), "did you mean alloy.py?", 2),
        (("run", "alloy.py", "--hea", "2"), "no dial 'hea'; did you mean 'heat'?", 2),
        (("run", "alloy.py", "--heat"), "--heat lacks a value", 2),
        (("run", "alloy.py", "heat"), "dials are set as --NAME VALUE", 2),
        (("run", "alloy.py", "--heat", "warm"), "heat='warm'", 2),
        (("show", "Train/none"), "holds no artifact 'Train/none'", 4),
        (("diff", "gone.json", "alloy.py"), "gone.json does not exist", 4),
        (("run", "alloy.py", "--device", "cuda"), "torch sees no GPU here", 2),
        (("rnu",), "No such command", 2),
    ],
)
def test_mistakes_are_told_in_one_sentence(here: Path, arguments: tuple[str, ...], words: str, code: int):
    if "cuda" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
    text = bloomery(here, *arguments, code=code)
    assert words in text
    assert text.startswith("error: ") or "Usage" in text
    assert not (here / "store" / "Smelt").exists()


def test_a_damaged_artifact_is_named(here: Path):
    bloomery(here, "run", "alloy.py")
    ore = next((here / "store" / "Mine").glob("far-*/ore.txt"))
    ore.write_bytes(ore.read_bytes()[:-1] + b"X")
    assert "does not have the checksum in its manifest" in bloomery(here, "show", "Smelt", "--verify", code=4)
    assert "ore.txt" in bloomery(here, "run", "alloy.py", "--heat", "3", code=4)
    assert not list((here / "store" / "Smelt").glob("*/iron.txt"))[1:]


def test_a_store_that_cannot_be_written_is_named_with_the_remedy(here: Path):
    (here / "file").write_text("")
    assert "choose another --store" in bloomery(here, "run", "alloy.py", "--store", "file/store", code=6)


def test_a_crawl_becomes_a_web_archive(here):
    site = here / "site"
    site.mkdir()
    (site / "index.html").write_text('<a href="/second.html">on</a> <a href="http://elsewhere.invalid/">away</a>')
    (site / "second.html").write_text("the second page")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seed = f"http://127.0.0.1:{server.server_port}/"
        said = bloomery(here, "crawl", seed, "--into", "crawled", "--addresses", "any", "--delay-s", "0")
        server.shutdown()
    assert "2 pages" in said
    read = [row["text"] for batch in Files(path=str(here / "crawled"), include=("*.warc.gz",)).batches() for row in batch.to_pylist()]
    assert len(read) == 2
    assert "the second page" in read


def test_models_are_listed_with_their_sizes_and_one_is_told_in_full(here: Path):
    listed = bloomery(here, "models")
    assert next(line for line in listed.splitlines() if line.startswith("7b")).split()[:4] == ["7b", "32", "4096", "6.89B"]
    told = bloomery(here, "models", "7b")
    assert "n_heads: 32" in told
    assert "6,888,361,984 parameters" in told
    assert "did you mean '7b'?" in bloomery(here, "models", "7", code=2)


def test_trackers_are_refused_before_anything_is_run(here: Path):
    (here / "aim.py").write_text("raise ImportError")  # as where the package is not installed
    assert "pip install 'bloomery[aim]'" in bloomery(here, "run", "alloy.py", "--tracker", "aim", code=2)
    assert "--tracker none does not go with aim" in bloomery(here, "run", "alloy.py", "--tracker", "none", "--tracker", "aim", code=2)
    assert not (here / "store").exists()
    bloomery(here, "run", "alloy.py", "--tracker", "none")


@pytest.mark.slow
def test_the_size_of_an_architecture_is_planned_without_a_recipe(here: Path):
    given = ("--tokens", "1.2B", "--batch-tokens", "64k", "--layout", "shard=8,tensor=4", "--machine", "h100", "--price", "2")
    told = bloomery(here, "size", "6m", *given)
    for words in ("5.87M parameters", "optimizer", "activations", "together", "of 73.6 GiB", "tokens/s", "at 2 an hour", "shard "):
        assert words in told, words
    assert "other ways" in told
    assert "1.2B tokens" in told
    assert "error: --layout tensor=3" in bloomery(here, "size", "6m", "--layout", "tensor=3", "--machine", "h100", code=2)
    assert "does not fit: weights" in bloomery(here, "size", "6m", "--time", "256", "--machine", "h100", "--memory", "0.05GiB")


def test_plan_tells_the_memory_and_the_time_of_each_training(here: Path):
    told = bloomery(here, "plan", str(ROOT / "recipes" / "quickstart.py"), "--machine", "rtx4090")
    assert told.count("memory of a rank") == 2
    assert told.count("tokens/s") == 2
    assert "13 of 13 stages would be made" in told


@pytest.mark.parametrize(("rank", "arguments", "told"), [
    ("0", ("run", "nowhere.py"), True), ("1", ("run", "nowhere.py"), False), ("1", ("show", "Train/nothing"), True),
])  # fmt: skip
def test_of_the_ranks_on_a_machine_the_first_tells_what_all_have_to_tell(rank, arguments, told, monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(sys, "argv", ["bloomery", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == {"run": 2, "show": 4}[arguments[0]]
    assert capsys.readouterr().err.startswith("error: ") is told
