"""Pushing: what goes to the hub, and what is refused before anything does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError, ResourceError
from bloomery.models import LlamaConfig, read_model, save_hub
from bloomery.stages.sharing.push import push, pushed_files
from bloomery.text.tokenizer import Tokenizer
from tests.stages.sharing.hub import TOKEN, Hub, hub_here

pytest.importorskip("huggingface_hub")

from huggingface_hub import HfApi, constants

CONFIG = LlamaConfig(vocab_size=290, d_model=16, n_layers=1, n_heads=2, max_seq_len=40)


class Noting:
    """An API that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.asked.append(name)


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the hub's own storage of large files; ours speaks git-lfs, as it does, too
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_here() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model with a card, weights and what stays here."""
    model = CONFIG.build(3)
    save_hub(model, CONFIG, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# A model\n")
    (tmp_path / "model" / "manifest.json").write_text("{}")
    (tmp_path / "model" / "data").mkdir()
    (tmp_path / "model" / "data" / "talks.md").write_text("# Talks\n")
    return tmp_path / "model"


def api(hub: Hub, token: str = TOKEN) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


@pytest.mark.parametrize("visible", ["private", "public"])
def test_the_repository_is_made_and_filled_in_one_commit_by_the_hubs_own_client(visible, hub, folder):
    where = push(folder, "me/model", TOKEN, visible, api(hub))
    assert where.startswith(hub.url)
    assert hub.repositories == {"me/model": visible == "private"}
    assert len(hub.commits) == 1
    assert hub.files == {f"me/model/{path.relative_to(folder)}": path.read_bytes() for path in pushed_files(folder)}
    assert set(hub.files) == {f"me/model/{name}" for name in ("README.md", "config.json", "model.safetensors", "data/talks.md")}


def test_what_is_there_is_written_over_and_stays_as_visible_as_it_was(hub, folder):
    push(folder, "me/model", TOKEN, "private", api(hub))
    (folder / "README.md").write_text("# Another\n")
    push(folder, "me/model", TOKEN, "public", api(hub))
    assert hub.repositories == {"me/model": True}
    assert hub.files["me/model/README.md"] == b"# Another\n"


def test_an_adapter_goes_alone(hub, tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    push(tmp_path, "me/adapter", TOKEN, "private", api(hub))
    assert set(hub.files) == {"me/adapter/adapter_config.json", "me/adapter/adapter_model.safetensors"}


def test_a_token_that_the_hub_does_not_take_is_told_and_not_shown(hub, folder):
    with pytest.raises(ResourceError, match="the hub did not take me/model") as told:
        push(folder, "me/model", "hf_another", "private", api(hub, "hf_another"))
    assert "hf_another" not in str(told.value)
    assert hub.files == {}


def test_the_verb_takes_the_token_of_the_environment_and_what_it_pushes_is_imported_from_there(hub, folder, tmp_path):
    Tokenizer.train(["the quick brown fox"] * 20, vocab_size=290).save(folder / "tokenizer.json")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "COLUMNS": "200",
                   "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.pathsep.join(str(Path(one).resolve()) for one in sys.path if one)}  # fmt: skip

    def bloomery(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "bloomery.cli", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    assert "5 files, " in bloomery("push", str(folder), "me/model", "--dry-run")
    assert not hub.repositories
    assert f"{hub.url}/me/model" in bloomery("push", str(folder), "me/model")
    assert hub.repositories == {"me/model": True}
    bloomery("import", "me/model", "--name", "again")
    (taken,) = (tmp_path / "store" / "Import").glob("again-????????????")
    for ours, read in zip(CONFIG.build(3).parameters(), read_model(taken / "model")[1].parameters(), strict=True):
        assert torch.equal(ours, read)


@pytest.mark.parametrize(("name", "token"), [("me/model", None), ("model", "t"), ("a/b/c", "t")])
def test_nothing_is_asked_without_a_token_or_with_no_such_name(name, token, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    noting = Noting()
    with pytest.raises(ConfigError):
        push(tmp_path, name, token, "private", noting)
    assert noting.asked == []


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no config\.json"):
        push(tmp_path, "me/model", "token", "public", Noting())


def test_a_hub_that_is_not_there_is_told_in_one_sentence(folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_here() as gone:
        pass
    with pytest.raises(ResourceError, match=r"the hub did not take me/model .* can be pushed again"):
        push(folder, "me/model", TOKEN, "public", api(gone))


def test_a_name_that_the_hub_has_not_is_told_by_its_client_and_shown_in_one_sentence(hub, folder):
    with pytest.raises(ResourceError, match="the hub did not take me/a model"):
        push(folder, "me/a model", TOKEN, "private", api(hub))
    assert not hub.repositories
