"""A store whose manifests are read once."""

import shutil

from bloomery.store import Artifact, Store
from bloomery.web.ui.remembered import Remembered
from tests.web.ui.places import made


def test_each_manifest_is_read_once_until_it_is_another_one(tmp_path, monkeypatch):
    made(Store(tmp_path), "Train/one-1", summary={"steps": 1})
    made(Store(tmp_path), "Train/two-2")
    store, opened, read = Remembered(tmp_path), [], Artifact.open
    monkeypatch.setattr(Artifact, "open", lambda path: opened.append(path.name) or read(path))
    assert [one.reference for one in store.artifacts()] == [one.reference for one in store.artifacts()] == ["Train/one-1", "Train/two-2"]
    assert sorted(opened) == ["one-1", "two-2"]
    kept = tmp_path / "kept"  # so that what is made anew cannot have the same place on the disk
    (tmp_path / "Train" / "one-1").rename(kept)
    made(Store(tmp_path), "Train/one-1", summary={"steps": 2})
    assert [one.manifest.summary for one in store.artifacts()] == [{}, {"steps": 2}]
    shutil.rmtree(tmp_path / "Train" / "two-2")
    assert [one.reference for one in store.artifacts()] == ["Train/one-1"]
