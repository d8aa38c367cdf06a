"""Putting a folder on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError, DataError, ResourceError

NOT_PUSHED = ("manifest.json",)


def push(folder: Path, name: str, token: str | None, visible: str, api: Any = None) -> str:
    """Makes the repository if it is not there, and puts all files of the folder into it in one commit.

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
        DataError: the folder holds no model.
        ResourceError: `huggingface_hub` is not installed, or the hub refuses.
    """
    if not token:
        raise ConfigError(f"pushing to {name} needs a token of the hub that may write; set HF_TOKEN, or log in with `hf auth login`")
    if name.count("/") != 1 or not all(name.split("/")):
        raise ConfigError(f"{name!r} is not an address on the hub; write OWNER/NAME")
    if not (folder / "config.json").exists():
        raise DataError(f"{folder} has no config.json, so it holds no model for the hub; export one first")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError:
        raise ResourceError("pushing needs huggingface_hub, which is not installed; pip install 'bloomery[remote]'") from None
    api = HfApi(token=token) if api is None else api
    try:
        api.create_repo(name, private=visible == "private", exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=folder, ignore_patterns=list(NOT_PUSHED), commit_message="Export from Bloomery")
    except (HfHubHTTPError, OSError) as error:
        raise ResourceError(f"the hub did not take {name} ({error}); what is in {folder} stays, and can be pushed again") from None
    return str(done)
