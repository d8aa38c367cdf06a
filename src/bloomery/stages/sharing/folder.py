"""A trained model as a folder to give away: files that others read, each read back and compared, with a card and a page to try it on.

    config.json, model.safetensors                   the architecture and the weights
    tokenizer.json, tokenizer_config.json            the tokenizer, its control tokens and the chat template
    generation_config.json                           which tokens begin, end and pad a text
    adapter/                                         an adapter that no weights could take in (a prompt, a prefix), for the peft library
    NAME-TYPE.gguf                                   the model and its tokenizer in one file, for llama.cpp, where that is asked for
    README.md, data/                                 its card, and those of the corpora that it was trained on
    demo.html                                        what it has written, and a place to talk to it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.core.units import human_bytes, human_count
from bloomery.models import FAMILIES, AdaptedConfig, CausalModel, ExportableConfig, Model, read_model, save_for_peft, save_hub
from bloomery.models.gguf import GgufType, save_gguf
from bloomery.models.hub import Written
from bloomery.stages.record.card import card as data_card
from bloomery.stages.record.record import Record
from bloomery.stages.sharing.card import Told, card
from bloomery.stages.sharing.compared import check_adapter, check_gguf, check_hub
from bloomery.stages.sharing.demo import demo_page, samples_of
from bloomery.stages.trained import tokenizer_of, verified
from bloomery.store import Artifact, Store, lineage, write_json, write_text
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer
from bloomery.text.tokenizer.gguf import gguf_tokenizer


@dataclass(frozen=True)
class Sharing:
    """How a model is given away.

    Attributes:
        template: how conversations are put to it.
        written: what the weights are rounded to.
        gguf: the types of matrices of which a GGUF file is written each.
        prompts: questions whose answers the page shows.
        licence: the hub's word for it; empty where nobody has said.
    """

    template: ChatTemplate = field(default_factory=ChatTemplate)
    written: Written = "fp32"
    gguf: tuple[GgufType, ...] = ()
    prompts: tuple[str, ...] = ()
    licence: str = ""


def write_folder(
    folder: Path, trained: Artifact, sharing: Sharing, store: Store, say: Callable[[str], None], evaluated: Sequence[Artifact] = ()
) -> dict[str, Any]:
    """Writes all of it.

    Args:
        folder: made if it isn't there.
        trained: what a training has left.
        sharing: how.
        store: where what it came from is looked for.
        say: told what has been compared.
        evaluated: artifacts of measurements of it, for the card.

    Returns:
        Figures of what was written.

    Raises:
        ConfigError: nobody else reads such a model, or not in what is asked for.
        ArtifactError: what was written does not read back as the model.
    """
    learnt, model = read_model(verified(trained).path / "model")
    config = learnt.base if isinstance(learnt, AdaptedConfig) else learnt
    if not isinstance(config, ExportableConfig):
        raise ConfigError(f"{trained.reference} is a {config.kind()}, which no library on the hub reads; train one of {', '.join(FAMILIES)}")
    tokenizer, compared = tokenizer_of(trained), []
    files: dict[str, str] = {}
    if isinstance(learnt, AdaptedConfig):
        _write_adapter(folder / "adapter", learnt, model)
        compared.append(f"adapter: {check_adapter(folder / 'adapter', model)}")
        files["adapter/"] = f"the {learnt.adapter.kind()}, for the peft library; the weights beside it are those of its base"
    token_ids = {"bos_token_id": tokenizer.begin, "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.pad}
    tokenizer.save(folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer, config.max_seq_len, sharing.template))
    write_json(folder / "generation_config.json", token_ids | {"do_sample": False, "max_length": config.max_seq_len})
    save_hub(model, config, folder, token_ids, sharing.written)
    compared.append(f"weights in {sharing.written}, read back: {check_hub(folder, model, config, sharing.written)}")
    files["model.safetensors"] = f"the weights in {sharing.written}, for transformers and all that reads its folders"
    for kind in sharing.gguf:
        name = f"{trained.manifest.name}-{kind}.gguf"
        spelled = gguf_tokenizer(tokenizer, config.vocab_size, tokenizer.spell(sharing.template.jinja))
        fields = {"general.name": trained.manifest.name, **spelled}
        save_gguf(model, learnt, folder / name, kind, fields)
        compared.append(f"{name}, read back: {check_gguf(folder / name, model)}")
        files[name] = f"all of it in one file of {human_bytes((folder / name).stat().st_size)}, for llama.cpp"
    for line in compared:
        say(f"{trained.reference}: {line}")
    architecture, weights = config.to_hub()["architectures"][0], sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if isinstance(model, CausalModel):
        length = f"{config.max_seq_len:,}"
        figures = [(human_count(config.n_params), "parameters"), (architecture, "architecture"), (length, "tokens it reads")]
        samples = samples_of(model, tokenizer, sharing.template, sharing.prompts)
        serve = "bloomery import . && bloomery serve Import/main"
        write_text(folder / "demo.html", demo_page(trained.manifest.name, figures, samples, serve))
        files["demo.html"] = "what it has written, and a place to talk to it"
    tree = lineage(trained.reference, store)
    data = {}
    for one in tree.artifacts().values():
        if one.manifest.stage == "Prepare":
            data[one.reference] = f"data/{one.path.name}.md"
            write_text(folder / data[one.reference], data_card(Record(one)))
    told = Told(trained, tree, learnt, architecture, files, compared, evaluated, data, sharing.licence)
    write_text(folder / "README.md", card(told))
    return {"architecture": architecture, "n_params": config.n_params, "weights_bytes": weights}


def _write_adapter(folder: Path, config: AdaptedConfig, model: Model) -> None:
    parameters = dict(model.named_parameters())
    try:
        save_for_peft(folder, config, {name: parameters[name].detach() for name in config.trained})
    except ConfigError as error:
        raise ConfigError(f"the model has {config.adapter.kind()}, which no library on the hub reads as it is: {error}; ask it here, or "
                          "tune its base with LoRA()") from None  # fmt: skip


def _tokenizer_config(tokenizer: Tokenizer, max_seq_len: int, template: ChatTemplate) -> dict[str, Any]:
    spelled = tokenizer.controls
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_seq_len, "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],  # version 4 of transformers adds token types unless told
        "bos_token": spelled[tokenizer.begin], "eos_token": spelled[tokenizer.end], "pad_token": spelled[tokenizer.pad],
        "chat_template": tokenizer.spell(template.jinja),
    }  # fmt: skip
