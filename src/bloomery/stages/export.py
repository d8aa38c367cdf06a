"""`Export`: a trained model as a folder that the Hugging Face ecosystem reads.

    config.json, model.safetensors                   the architecture and the weights, in float32
    tokenizer.json, tokenizer_config.json            the tokenizer, its control tokens and the chat template
    generation_config.json                           which tokens begin, end and pad a text
    adapter/                                         an adapter that no weights could take in (a prompt, a prefix), for the peft library
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.models import FAMILIES, AdaptedConfig, ExportableConfig, Model, read_model, save_for_peft, save_hub
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.trained import Trained
from bloomery.store import Workspace, write_json
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer


class Export(Stage):
    """Writes what a training left as a hub folder: `AutoModelForCausalLM.from_pretrained(artifact)` gives the same logits.

    Of a model with a prompt or a prefix the weights are those of its base, and `PeftModel.from_pretrained(base, artifact / "adapter")` is it.

    Example:
        >>> Export(model=chat).run(context).path
        PosixPath('store/Export/main-0f3c…')
    """

    model: Trained
    """The model to write."""
    template: ChatTemplate = ChatTemplate()
    """How conversations are put to it."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        trained, folder = inputs[self.model], workspace.path
        for file in ("model/config.json", "model/model.safetensors"):
            trained.checked(file)
        learnt, model = read_model(trained.path / "model")
        config = learnt.base if isinstance(learnt, AdaptedConfig) else learnt
        if not isinstance(config, ExportableConfig):
            raise ConfigError(f"Export.model is a {config.kind()}, which no library on the hub reads; train one of {', '.join(FAMILIES)}")
        if isinstance(learnt, AdaptedConfig):
            self._write_adapter(folder / "adapter", learnt, model)
        tokenizer = Tokenizer.load(trained.checked("tokenizer/tokenizer.json"))
        token_ids = {"bos_token_id": tokenizer.begin, "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.pad}
        tokenizer.save(folder / "tokenizer.json")
        write_json(folder / "tokenizer_config.json", self._tokenizer_config(tokenizer, config.max_seq_len))
        write_json(folder / "generation_config.json", token_ids | {"do_sample": False, "max_length": config.max_seq_len})
        save_hub(model, config, folder, token_ids)
        size = (folder / "model.safetensors").stat().st_size
        return {"architecture": config.to_hub()["architectures"][0], "n_params": config.n_params, "weights_bytes": size}

    def _write_adapter(self, folder: Path, config: AdaptedConfig, model: Model) -> None:
        parameters = dict(model.named_parameters())
        try:
            save_for_peft(folder, config, {name: parameters[name].detach() for name in config.trained})
        except ConfigError as error:
            raise ConfigError(f"Export.model has {config.adapter.kind()}, which no library on the hub reads as it is: {error}; ask it here, or "
                              "tune its base with LoRA()") from None  # fmt: skip

    def _tokenizer_config(self, tokenizer: Tokenizer, max_seq_len: int) -> dict[str, Any]:
        spelled = tokenizer.controls
        return {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_seq_len, "clean_up_tokenization_spaces": False,
            "bos_token": spelled[tokenizer.begin], "eos_token": spelled[tokenizer.end], "pad_token": spelled[tokenizer.pad],
            "chat_template": tokenizer.spell(self.template.jinja),
        }  # fmt: skip
