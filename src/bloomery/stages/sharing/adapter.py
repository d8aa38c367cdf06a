"""A trained adapter as a folder of its own, for the `peft` library: a few megabytes beside the base that it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.core.units import human_bytes
from bloomery.models import attach_adapter, read_model
from bloomery.models.peft import CONFIG, WEIGHTS
from bloomery.stages.sharing.card import Told, card
from bloomery.stages.sharing.compared import difference, logits_of, text_for
from bloomery.stages.trained import verified
from bloomery.store import Artifact, Store, lineage, write_bytes, write_text


def write_adapter(folder: Path, trained: Artifact, store: Store, say: Callable[[str], None], licence: str = "") -> dict[str, Any]:
    """Writes the adapter, its card and the tokenizer. It is put onto its base and compared with what it was trained to be, where the store
    still has the base.

    Args:
        folder: made if it isn't there.
        trained: what the training of an adapter has left.
        store: where its base is looked for.
        say: told what has been compared.
        licence: the hub's word for it.

    Raises:
        ConfigError: it has trained none; or on its base it is not what it was trained to be.
    """
    if f"adapter/{WEIGHTS}" not in trained.manifest.files:
        raise ConfigError(f"{trained.reference} holds no adapter; export it as a whole (--as hub), or give a training of LoRA()")
    for name in (CONFIG, WEIGHTS):
        write_bytes(folder / name, trained.checked(f"adapter/{name}").read_bytes())
    write_bytes(folder / "tokenizer.json", trained.checked("tokenizer/tokenizer.json").read_bytes())
    base = store.find(trained.manifest.inputs.get("init.base", ""))
    config, model = read_model(verified(trained).path / "model")
    if base is None:
        compared = "its base is not in the store, so that it was not put onto it"
    else:
        tuned = read_model(verified(base).path / "model")[1]
        attach_adapter(tuned, folder)
        text = text_for(config)
        found = difference(logits_of(model, text), logits_of(tuned, text))
        if not found.close:
            raise ConfigError(f"the adapter of {trained.reference} on {base.reference} is not what it was trained to be: {found}; its base was "
                              "changed on the way: export it as a whole (--as hub)")  # fmt: skip
        compared = f"on {base.reference}: {found}"
    say(f"{trained.reference}: {compared}")
    size = (folder / WEIGHTS).stat().st_size
    files = {WEIGHTS: f"the adapter, {human_bytes(size)}, for the peft library", "tokenizer.json": "the tokenizer of its base"}
    told = Told(trained, lineage(trained.reference, store), config, files=files, compared=[compared], licence=licence)
    write_text(folder / "README.md", card(told))
    return {"adapter_bytes": size}
