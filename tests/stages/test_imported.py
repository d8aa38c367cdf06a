"""Import: models of every family, as they are, ready to be gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from bloomery.core.errors import ConfigError
from bloomery.models import FAMILIES, AdaptedConfig, HubConfig, LlamaConfig, load_hub, read_model, save_for_peft, save_hub
from bloomery.nn.adapters import LoRA
from bloomery.stages.adapted import Adapted, AdapterFolder
from bloomery.stages.imported import Import
from bloomery.stages.init import Continue, Hub
from bloomery.stages.sharing.compared import logits_of, text_for
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenizer import LoadTokenizer
from bloomery.store import Store
from bloomery.text.tokenizer import Characters, Tokenizer
from tests.models.cases import CASES, ENCODER_DECODER_CASES
from tests.models.test_parity import random_model

TOKENIZER = Tokenizer.train(["abcdefghij"], vocab_size=30, model=Characters())
FIRST: dict[str, HubConfig] = {}
for config in (*CASES.values(), *ENCODER_DECODER_CASES.values()):
    FIRST.setdefault(config.hub_type, config)


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(store=Store(tmp_path / "store"), quiet=True)


def folder_of(config: HubConfig, folder: Path):
    model = random_model(config)
    save_hub(model, config, folder)
    TOKENIZER.save(folder / "tokenizer.json")
    return model


def test_every_family_is_tried():
    assert set(FIRST) == set(FAMILIES)


@pytest.mark.parametrize("config", FIRST.values(), ids=FIRST.keys())
def test_a_model_is_taken_in_as_it_is(config, tmp_path, context):
    model = folder_of(config, tmp_path / "hub")
    stage = Import(model=Hub(path=tmp_path / "hub"), tokenizer=LoadTokenizer(path=str(tmp_path / "hub")))
    taken = read_model(stage.run(context).path / "model")[1]
    text = text_for(config)
    assert torch.equal(logits_of(taken, text), logits_of(model, text))
    assert Continue(base=stage).architecture == taken.config
    assert stage.vocabulary.vocab_size == TOKENIZER.vocab_size


def test_an_adapter_is_taken_into_the_weights(tmp_path, context):
    config = LlamaConfig(vocab_size=61, d_model=24, n_layers=2, n_heads=4, tie_embeddings=False)
    folder_of(config, tmp_path / "hub")
    tuned_config = AdaptedConfig(base=config, adapter=LoRA(rank=2))
    tuned = tuned_config.build(seed=1)
    loaded = dict(load_hub(tmp_path / "hub")[1].named_parameters())
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            parameter.copy_(loaded[name]) if name in loaded else parameter.normal_(std=0.3)
    save_for_peft(tmp_path / "low", tuned_config, {name: dict(tuned.named_parameters())[name].detach() for name in tuned_config.trained})
    stage = Import(
        model=Adapted(adapter=AdapterFolder(path=tmp_path / "low"), init=Hub(path=tmp_path / "hub"), goes_on="weights"),
        tokenizer=LoadTokenizer(path=str(tmp_path / "hub")),
    )  # fmt: skip
    taken, text = read_model(stage.run(context).path / "model")[1], text_for(config)
    assert isinstance(taken.config, LlamaConfig)
    torch.testing.assert_close(logits_of(taken, text), logits_of(tuned, text), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits_of(taken, text), logits_of(load_hub(tmp_path / "hub")[1], text), atol=1e-2)


def test_a_tokenizer_of_another_model_is_refused(tmp_path, context):
    folder_of(LlamaConfig(vocab_size=8, d_model=24, n_layers=1, n_heads=4), tmp_path / "hub")
    with pytest.raises(ConfigError, match="they belong to different models"):
        Import(model=Hub(path=tmp_path / "hub"), tokenizer=LoadTokenizer(path=str(tmp_path / "hub"))).run(context)


def test_roles_without_vectors_are_told(tmp_path, capsys):
    config = LlamaConfig(vocab_size=61, d_model=24, n_layers=1, n_heads=4)
    folder_of(config, tmp_path / "hub")
    backend = Backend(models.WordLevel({f"w{i}": i for i in range(58)} | {"<s>": 58, "</s>": 59, "<pad>": 60}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<s>", "</s>", "<pad>"])
    backend.save(str(tmp_path / "hub" / "tokenizer.json"))
    Import(model=Hub(path=tmp_path / "hub"), tokenizer=LoadTokenizer(path=str(tmp_path / "hub"))).run(RunContext(store=Store(tmp_path / "s")))
    assert "has no vectors for <|user|>, <|assistant|>, <|system|>" in capsys.readouterr().out
