"""Pushing: what goes to the hub, and what is refused before anything does."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError, DataError, ResourceError
from bloomery.stages.sharing.push import push

pytest.importorskip("huggingface_hub")


class Hub:
    """Notes what it is asked."""

    def __init__(self, fails: bool = False) -> None:
        self.asked: list[tuple[str, dict]] = []
        self.fails = fails

    def create_repo(self, name: str, **options) -> None:
        self.asked.append((name, options))

    def upload_folder(self, **options) -> str:
        if self.fails:
            raise OSError("no route")
        self.asked.append(("upload", options))
        return "address"


def test_the_repository_is_made_and_filled_in_one_commit(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    hub = Hub()
    assert push(tmp_path, "me/model", "token", "private", hub) == "address"
    assert hub.asked[0] == ("me/model", {"private": True, "exist_ok": True})
    assert hub.asked[1][1]["folder_path"] == tmp_path
    assert "manifest.json" in hub.asked[1][1]["ignore_patterns"]
    assert len(hub.asked) == 2


@pytest.mark.parametrize(("name", "token"), [("me/model", None), ("model", "t"), ("a/b/c", "t")])
def test_nothing_is_asked_without_a_token_or_with_no_such_name(name, token, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    hub = Hub()
    with pytest.raises(ConfigError):
        push(tmp_path, name, token, "private", hub)
    assert hub.asked == []


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no config\.json"):
        push(tmp_path, "me/model", "token", "public", Hub())


def test_a_hub_that_fails_is_told_in_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ResourceError, match="did not take me/model"):
        push(tmp_path, "me/model", "token", "public", Hub(fails=True))
