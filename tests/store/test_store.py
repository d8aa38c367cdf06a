import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from bloomery.core.errors import ArtifactError
from bloomery.store import Artifact, Store, find_artifact, write_text
from bloomery.store.artifact import MANIFEST


def finish(store: Store, key: str = "00", stage: str = "Mine", name: str = "main", inputs: dict[str, str] | None = None) -> Artifact:
    workspace = store.workspace(f"{stage}/{name}-{key}")
    write_text(workspace.path / "part" / "ore.txt", f"ore {key}")
    workspace.count("part/ore.txt", rows=2)
    return workspace.finish(stage=stage, name=name, key=key, fields={"ore": "tin"}, inputs=inputs or {}, summary={"rows": 2})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_finished_artifact_is_found_with_its_counts(store: Store):
    assert store.find("Mine/main-00") is None
    made = finish(store)
    assert store.find("Mine/main-00") == made == store.open("Mine/main-00")
    assert made.manifest.files["part/ore.txt"].counts == {"rows": 2}
    assert made.reference == "Mine/main-00"
    assert made.checked("part/ore.txt").read_text() == "ore 00"
    made.verify()


def test_no_manifest_means_no_artifact(store: Store):
    made = finish(store)
    (made.path / MANIFEST).unlink()
    assert store.find("Mine/main-00") is None
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        store.open("Mine/main-00")


def test_one_flipped_byte_is_found_and_named(store: Store):
    made = finish(store)
    path = made.path / "part/ore.txt"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"ore\.txt does not have the checksum in its manifest; delete the folder"):
        made.verify()


def test_a_short_missing_or_foreign_file_is_found_without_reading_it(store: Store):
    made = finish(store)
    with pytest.raises(ArtifactError, match="holds no file 'x'; it holds part/ore.txt"):
        made.file("x")
    os.truncate(made.path / "part/ore.txt", 2)
    with pytest.raises(ArtifactError, match="another length"):
        made.file("part/ore.txt")
    (made.path / "part/ore.txt").unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        made.file("part/ore.txt")


def test_a_manifest_of_another_shape_is_refused(store: Store):
    made = finish(store)
    (made.path / MANIFEST).write_text(json.dumps({"files": {}}))
    with pytest.raises(ArtifactError, match="does not read as a manifest"):
        Artifact.open(made.path)


def test_unfinished_work_is_kept_and_temporary_files_are_not(store: Store):
    workspace = store.workspace("Mine/main-00")
    write_text(workspace.path / "kept.txt", "kept")
    (workspace.path / "torn.txt.writing").write_text("to")
    assert store.has_partial("Mine/main-00")
    made = finish(store)
    assert sorted(made.manifest.files) == ["kept.txt", "part/ore.txt"]
    assert not store.has_partial("Mine/main-00")
    assert not (made.path / "torn.txt.writing").exists()


def test_a_folder_without_a_manifest_in_the_way_is_not_overwritten(store: Store):
    store.path("Mine/main-00").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="exists without a manifest"):
        finish(store)


def test_siblings_come_newest_first_and_only_of_that_name(store: Store):
    finish(store, "00")
    time.sleep(0.01)
    finish(store, "01")
    finish(store, "02", name="main-other")
    assert [a.manifest.key for a in store.siblings("Mine", "main")] == ["01", "00"]
    assert len(store.artifacts()) == 3


def test_an_artifact_is_found_by_an_unambiguous_beginning(store: Store):
    finish(store, "0a")
    made = finish(store, "1b")
    assert find_artifact(store, "main-1") == find_artifact(store, "Mine/main-1b") == made
    with pytest.raises(ArtifactError, match="fits 2 artifacts"):
        find_artifact(store, "main")
    with pytest.raises(ArtifactError, match="holds no artifact 'x'"):
        find_artifact(store, "x")


def _hold(root: Path, held: str) -> None:
    with Store(root).lease("Mine/main-00", on_wait=lambda: None):
        Path(held).touch()
        time.sleep(60)


def test_a_lease_is_waited_for_and_dies_with_its_holder(store: Store, tmp_path: Path):
    held = tmp_path / "held"
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(store.root, str(held)))
    holder.start()
    while not held.exists():
        time.sleep(0.01)
    waited = []

    def kill() -> None:
        waited.append(True)
        holder.kill()

    with store.lease("Mine/main-00", on_wait=kill):
        assert waited == [True]
    holder.join()
