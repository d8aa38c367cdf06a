"""Putting a folder on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError, DataError, ResourceError

NOT_PUSHED = ("manifest.json",)


def pushed_files(folder: Path) -> list[Path]:
    """The files of a folder that go to the hub; raises `DataError` where it holds neither a model nor an adapter."""
    if not any((folder / name).exists() for name in ("config.json", "adapter_config.json")):
        raise DataError(f"{folder} has no config.json, and no adapter_config.json, so it holds no model for the hub; export one first")
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in NOT_PUSHED)


def check_name(name: str) -> None:
    """Raises `ConfigError` for what is no "owner/name"."""
    if name.count("/") != 1 or not all(name.split("/")):
        raise ConfigError(f"{name!r} is not an address on the hub; write OWNER/NAME")


def push(folder: Path, name: str, token: str | None, visible: str, api: Any = None) -> str:
    """Makes the repository if it is not there, and puts all files of the folder into it in one commit, so that nobody reads half a model.

    Args:
        folder: as `write_folder` or an `Export` has left it.
        name: "owner/name" on the hub.
        token: that lets one write there.
        visible: "public" or "private", where the repository is made.
        api: a `huggingface_hub.HfApi`; None for the hub's own.

    Returns:
        Where it is.

    Raises:
        ConfigError: there is no token, or no such name can be.
        DataError: the folder holds no model and no adapter.
        ResourceError: `huggingface_hub` is not installed, or the hub refuses.
    """
    if not token:
        raise ConfigError(f"pushing to {name} needs a token of the hub that may write; set HF_TOKEN, or log in with `hf auth login`")
    check_name(name)
    files = pushed_files(folder)
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
    except ModuleNotFoundError:
        raise ResourceError("pushing needs huggingface_hub, which is not installed; pip install 'bloomery[remote]'") from None
    api = HfApi(token=token) if api is None else api
    try:
        api.create_repo(name, private=visible == "private", exist_ok=True)
        added = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
        done = api.create_commit(name, added, commit_message="Export from Bloomery")
    except Exception as error:  # what cannot be reached is told in the words of another library by each version of the client
        raise ResourceError(f"the hub did not take {name} ({' '.join(str(error).split())}); what is in {folder} stays, and can be "
                            "pushed again") from None  # fmt: skip
    return str(done)
