"""Bad input, full and read-only disks, changed bytes: the command line says one sentence, leaves nothing half-written, and can go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors import safe_open
from tests import commands
from tests.faults.namespace import Namespace
from tests.faults.test_kill import results

from bloomery.store import Artifact

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / "tests" / "faults" / "small.py")
MAIN = "from bloomery.cli.main import main; main()"
OFTEN = f"from bloomery.stages.stage import RunContext as R; R.__init__.__kwdefaults__['checkpoint_every_s'] = 0.0; {MAIN}"  # after each step
MEASURED = (
    "import atexit, pathlib, re; "
    "peak = lambda: re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]; "
    f"atexit.register(lambda: pathlib.Path('peak').write_text(peak())); {MAIN}"
)
ENVIRONMENT = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}
pytestmark = pytest.mark.timeout(400)
CONFIG, DATA, ARTIFACT, RESOURCE = 2, 3, 4, 6  # exit codes


def child(*arguments: str | Path, code: str = MAIN, space: Namespace | None = None, cwd: Path = ROOT) -> subprocess.Popen:
    """The command line in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(space.inside(*command) if space else command, cwd=cwd, env=ENVIRONMENT, **pipes)


def finished_child(*arguments: str | Path, **options) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; it does not outlive the test."""
    if options.keys() <= {"cwd"}:
        return commands.bloomery(*map(str, arguments), cwd=options.get("cwd", ROOT), environment=ENVIRONMENT)
    with child(*arguments, **options) as process:
        try:
            out, err = process.communicate()
        finally:
            process.kill()
    return process.returncode, out, err


def works(*arguments: str | Path, **options) -> str:
    """What a command prints that must succeed."""
    exit_code, out, err = finished_child(*arguments, **options)
    assert exit_code == 0, err
    assert err == ""
    return out


def refused(exit_code: int, *arguments: str | Path, **options) -> str:
    """The message of a command that must fail with this code: one sentence with a remedy, and nothing else on stderr."""
    code, out, err = finished_child(*arguments, **options)
    assert code == exit_code, f"exit code {code}: {err}"
    assert "Traceback" not in out + err, err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: "), err
    assert "; " in lines[0], f"no remedy: {err}"
    print(lines[0])  # pytest -rP shows them all
    return lines[0].removeprefix("error: ")


def half_written(store: Path) -> list[Path]:
    """What may not be there: folders that look finished and are not, temporary files, files that are torn under their final names."""
    torn = [path for path in store.glob("*/*") if path.is_dir() and path.suffix != ".partial" and not (path / "manifest.json").exists()]
    torn += store.rglob("*.writing")
    for path in store.rglob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            torn.append(path)
    for path in store.rglob("*.safetensors"):
        try:
            with safe_open(path, "pt") as file:
                file.keys()
        except Exception:  # whatever the library raises
            torn.append(path)
    return torn


def flip(path: Path, at: float = 0.5) -> None:
    """Changes one byte of a file, keeping its length."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x01
    path.write_bytes(data)


def weights(store: Path) -> str:
    """The SHA-256 of the trained weights in a store that holds one training."""
    artifact = Artifact.open(the(store, "Train/main-*[!.]????????"))
    artifact.verify()
    return artifact.manifest.files["model/model.safetensors"].sha256


def the(folder: Path, pattern: str) -> Path:
    """The one path that fits."""
    found = [path for path in folder.glob(pattern) if path.suffix not in (".lease", ".failed")]
    assert len(found) == 1, found
    return found[0]


@dataclass(frozen=True)
class Finished:
    """A text, the store of an undisturbed run over it, and the command that made it."""

    text: Path
    store: Path

    def command(self, store: Path, *dials: str) -> tuple[str | Path, ...]:
        return ("run", RECIPE, "--text", self.text, "--device", "cpu", "--store", store, *dials)

    def copy(self, target: Path, *without: str) -> Path:
        """The store again, elsewhere, without the artifacts of some stages."""
        return Path(shutil.copytree(self.store, target, ignore=lambda folder, _: without if Path(folder) == self.store else ()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    draw = random.Random(1)
    words = ["".join(draw.choices("aeioubcdlmnrst", k=draw.randint(2, 8))) for _ in range(400)]
    rows = [json.dumps({"text": " ".join(draw.choices(words, k=40))}) for _ in range(300)]
    (folder / "text.jsonl").write_text("\n".join(rows) + "\n")
    done = Finished(folder / "text.jsonl", folder / "store")
    works(*done.command(done.store))
    return done


# Sources


def test_a_missing_path(tmp_path: Path):
    (tmp_path / "novels").mkdir()
    message = refused(DATA, "pretrain", "--source", "nowels", cwd=tmp_path)
    assert message.startswith("Files.path='nowels' does not exist; did you mean ")
    assert "novels" in message
    assert not (tmp_path / "store").exists()


def test_an_empty_file(tmp_path: Path):
    (tmp_path / "empty.txt").touch()
    assert refused(DATA, "pretrain", "--source", "empty.txt", cwd=tmp_path).startswith("Files.path='empty.txt': the file is empty; give one")
    assert not list(tmp_path.glob("store/*/*/")), "an empty workspace is left"


def test_invalid_utf8(tmp_path: Path):
    (tmp_path / "old.txt").write_bytes(b"plain ascii, then caf\xe9 in latin-1\n")
    message = refused(DATA, "pretrain", "--source", "old.txt", cwd=tmp_path)
    assert message == "old.txt is not utf-8 at byte 21 (0xe9); try Files(encoding='latin-1')"
    assert not list(tmp_path.glob("store/*/*/")), "an empty workspace is left"


@pytest.mark.parametrize(("name", "part"), [("line.txt", "would be one document; cut it with"), ("line.jsonl", "line 1 is longer than")])
@pytest.mark.slow
def test_one_line_of_a_gigabyte(tmp_path: Path, name: str, part: str):
    with open(tmp_path / name, "wb") as file:  # sparse: a gigabyte of zeros, which are valid UTF-8, that takes no disk
        file.truncate(1 << 30)
    message = refused(DATA, "pretrain", "--source", name, cwd=tmp_path, code=MEASURED)
    assert message.startswith(name)
    assert part in message
    assert "max_document_bytes=67108864 (64 MiB)" in message
    assert int((tmp_path / "peak").read_text()) << 10 < 1.2e9, "bytes in memory at most; torch alone takes a third"
    assert not list(tmp_path.glob("store/*/*/")), "an empty workspace is left"


# Recipes


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("LlamaConfig(vocab_size=300, d_model=64, n_layer=2, n_heads=2)", "LlamaConfig has no field 'n_layer'; did you mean 'n_layers'?"),
        ("LlamaConfig(vocab_size=9, d_model=384, n_layers=2, n_heads=10)", "LlamaConfig.n_heads=10 does not divide d_model=384; 8 or 12 would"),
    ],
)
def test_a_config_that_cannot_be(tmp_path: Path, line: str, words: str):
    (tmp_path / "mine.py").write_text(f"from bloomery.models import LlamaConfig\n\ndef mine():\n    return {line}\n")
    assert refused(CONFIG, "run", "mine.py", cwd=tmp_path) == words
    assert not (tmp_path / "store").exists()


def test_a_batch_of_half_rows(finished: Finished, tmp_path: Path):
    message = refused(CONFIG, "pretrain", "--source", finished.text, "--batch-tokens", "1000", cwd=tmp_path)
    assert message == "Train.batch_tokens=1000 is not a multiple of max_seq_len=256; 768 or 1024 would be"
    assert not (tmp_path / "store").exists()


def test_a_mistyped_dial(finished: Finished, tmp_path: Path):
    message = refused(CONFIG, *finished.command(tmp_path / "store", "--stepz", "3"))
    assert message == "recipe 'small' has no dial 'stepz'; did you mean 'steps'?"
    assert not (tmp_path / "store").exists()


# Disks


@pytest.mark.slow
def test_the_disk_is_full_in_the_middle_of_preparing(finished: Finished, tmp_path: Path):
    store = tmp_path / "store"
    with Namespace() as space:
        space.small_disk(store, 128 << 10)
        message = refused(RESOURCE, *finished.command(store), space=space)
        assert "Prepare/main-" in message
        assert "the disk is full; free some space or choose another --store" in message
        space.copy(store, left := tmp_path / "left")
        space.resize(store, 64 << 20)
        works(*finished.command(store), space=space)
        space.copy(store, after := tmp_path / "after")
    partial = the(left, "Prepare/*.partial")
    assert list(partial.glob("work/*.json")), "it was not in the middle: no part was done"
    assert not half_written(left)
    whole = Artifact.open(the(finished.store, "Prepare/main-*")).manifest.files
    assert all(path.stat().st_size == whole[path.name].bytes for path in partial.glob("*.parquet"))
    assert results(after) == results(finished.store)


@pytest.mark.parametrize(("code", "writes"), [
    pytest.param(OFTEN, "checkpoints/", marks=pytest.mark.slow), (MAIN, "model/model.safetensors"),
], ids=["checkpoint", "model"])  # fmt: skip
def test_the_disk_is_full_in_the_middle_of_training(finished: Finished, tmp_path: Path, code: str, writes: str):
    """In the third checkpoint, where two are kept; and, with one at the end only, where the model is written after it."""
    store, start = tmp_path / "store", finished.copy(tmp_path / "start", "Train")
    model = the(finished.store, "Train/main-*/model/model.safetensors").stat().st_size
    checkpoint, snapshot = 4 * model, 2 * model  # weights, two moments, their average; at step 0, to be rolled back to, without moments
    with Namespace() as space:
        space.small_disk(store, 64 << 20)
        space.copy(start, store)
        room = snapshot + (int(2.6 * checkpoint) if code == OFTEN else int(checkpoint + 0.8 * model))
        space.resize(store, space.used(store) + room)
        message = refused(RESOURCE, *finished.command(store), space=space, code=code)
        assert writes in message
        assert "the disk is full; free some space or choose another --store" in message
        space.copy(store, left := tmp_path / "left")
        space.resize(store, 64 << 20)
        told = works(*finished.command(store), space=space, code=code)
        space.copy(store, after := tmp_path / "after")
    assert the(left, "Train/*").name.endswith(".partial")
    assert len(list(left.glob("Train/*/checkpoints/*/manifest.json"))) == (2 if code == OFTEN else 1)
    assert not half_written(left)
    assert f"going on from step {2 if code == OFTEN else 12}" in told
    assert results(after) == results(finished.store)


def test_a_read_only_store(finished: Finished, tmp_path: Path):
    store = finished.copy(tmp_path / "store")
    before = sorted(store.rglob("*"))
    with Namespace() as space:
        space.read_only(store)
        message = refused(RESOURCE, *finished.command(store, "--steps", "13"), space=space)
        answer = works("chat", the(store, "Train/main-*"), "--say", "Hello", "--max-new-tokens", "2", space=space)
    assert str(store) in message
    assert "the file system is read-only; choose another --store" in message
    assert sorted(store.rglob("*")) == before
    assert answer, "what is there can still be used"


# Changed bytes


def test_a_changed_shard_of_tokens(finished: Finished, tmp_path: Path):
    store = finished.copy(tmp_path / "store", "Train")
    shard = the(store, "Tokenize/told-*/tokens-00000.bin")
    flip(shard)
    message = refused(ARTIFACT, *finished.command(store))
    assert message == (f"{shard} does not have the checksum in its manifest; delete the folder {shard.parent} and run again to rebuild it")
    assert not half_written(store)
    assert not list(store.glob("Train/*/model"))
    shutil.rmtree(shard.parent)  # the remedy
    works(*finished.command(store))
    assert results(store) == results(finished.store)


def test_a_changed_shard_of_documents(finished: Finished, tmp_path: Path):
    store = finished.copy(tmp_path / "store", "TrainTokenizer", "Train")
    shard = the(store, "Prepare/main-*/documents-00000.parquet")
    flip(shard, at=0.3)
    message = refused(ARTIFACT, *finished.command(store))
    assert message == (f"{shard} does not have the checksum in its manifest; delete the folder {shard.parent} and run again to rebuild it")
    assert not half_written(store)


def test_a_changed_checkpoint_and_torn_metrics(finished: Finished, tmp_path: Path):
    store = finished.copy(tmp_path / "store", "Train")
    process = child(*finished.command(store), code=OFTEN)
    while process.poll() is None and not list(store.glob("Train/*.partial/checkpoints/step-0000000[3-9]/manifest.json")):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    partial = the(store, "Train/*.partial")
    newest, before = sorted((path.parent for path in partial.glob("checkpoints/*/manifest.json")), reverse=True)[:2]
    assert newest.name != "step-00000012", "it was killed too late"
    flip(newest / "rank-00000.safetensors", at=0.9)
    metrics = partial / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-30])
    told = works(*finished.command(store))
    damaged = f"{newest.name}/rank-00000.safetensors is damaged"
    assert f"{damaged}: its checksum is not the one written; going back to the checkpoint before it" in told
    assert f"going on from step {int(before.name[5:])}" in told
    assert weights(store) == weights(finished.store)
    assert results(store) == results(finished.store), "metrics are not those of an undisturbed run"


def test_a_changed_model(finished: Finished, tmp_path: Path):
    model = the(finished.copy(tmp_path / "store"), "Train/main-*/model/model.safetensors")
    flip(model, at=0.9)
    folder = model.parents[1]
    message = refused(ARTIFACT, "chat", folder, "--say", "Hello")
    assert message == f"{model} does not have the checksum in its manifest; delete the folder {folder} and run again to rebuild it"


def test_a_torn_manifest(finished: Finished, tmp_path: Path):
    store = finished.copy(tmp_path / "store")
    manifest = the(store, "Train/main-*/manifest.json")
    manifest.write_bytes(manifest.read_bytes()[: manifest.stat().st_size // 2])
    message = refused(ARTIFACT, *finished.command(store))
    assert message.startswith(f"{manifest} is not JSON (")
    assert message.endswith("; delete its folder and run again")
    assert not list(store.glob("Train/*.partial"))


def test_torn_metrics_of_a_finished_training(finished: Finished, tmp_path: Path):
    store = finished.copy(tmp_path / "store")
    metrics = the(store, "Train/main-*/metrics.jsonl")
    metrics.write_bytes(metrics.read_bytes()[:-30])
    message = refused(ARTIFACT, "show", metrics.parent, "--verify")
    assert message == f"{metrics} is missing or has another length; delete the folder {metrics.parent} and run again to rebuild it"
