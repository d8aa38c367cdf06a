"""What is trained of a model: sets of canonical names, and what is refused."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import BertConfig, LlamaConfig, TaskConfig
from bloomery.models.heads import SequenceClassificationConfig
from bloomery.optim import AdamW, Embeddings, Everything, Heads, LastLayers, Muon, Paths
from bloomery.optim.groups import members

LLAMA = LlamaConfig(vocab_size=32, d_model=16, n_layers=4, n_heads=2, d_ff=24, max_seq_len=16, tie_embeddings=False)
TASKS = TaskConfig(
    base=BertConfig(vocab_size=40, d_model=16, n_layers=2, n_heads=2), heads=(SequenceClassificationConfig(name="mood", n_labels=3),),
)  # fmt: skip
ALL = frozenset(name for name, _ in LLAMA.build(0).named_parameters())


def names(trainable, config=LLAMA) -> frozenset[str]:
    return trainable.names(members(config.build(0)))


def test_the_last_layers_are_whole_blocks_and_all_above_them():
    assert names(LastLayers(count=1)) == {name for name in ALL if name.startswith(("blocks.3.", "norm.", "head."))}
    assert names(LastLayers(count=4)) == names(Everything() - Embeddings()) == ALL - {"embedding.weight"}


def test_heads_are_those_of_tasks_or_that_of_the_vocabulary():
    assert names(Heads()) == {"head.weight"}
    assert {name.split(".")[0] for name in names(Heads(), TASKS)} == {"heads"}
    with pytest.raises(ConfigError, match=r"tied to the embeddings; give it heads for tasks"):
        names(Heads(), LLAMA.replace(tie_embeddings=True))


def test_sets_combine_as_sets_do():
    first, second = Paths(paths=("blocks.0", "norm")), Paths(paths=("blocks.0.mixer", "head.weight"))
    assert names(first | second) == names(first) | names(second)
    assert names(first & second) == names(first) & names(second) == {name for name in ALL if name.startswith("blocks.0.mixer.")}
    assert names(first - second) == names(first) - names(second)


def test_a_path_is_a_path_and_no_beginning_of_a_name():
    wide = LLAMA.replace(n_layers=12)
    assert {name.split(".")[1] for name in names(Paths(paths=("blocks.1",)), wide)} == {"1"}


@pytest.mark.parametrize(("path", "remedy"), [
    ("blocks.9", r"did you mean 'blocks\.\d'"), ("blocks.0.mixer.qvk", r"did you mean 'blocks\.0\.mixer\.qkv'"),
    ("zzz", "its parts are blocks, embedding, head, norm"),
])  # fmt: skip
def test_a_path_that_leads_nowhere_is_refused_with_the_nearest_one(path, remedy):
    with pytest.raises(ConfigError, match=f"nothing to train at '{path}'; {remedy}"):
        names(Paths(paths=(path,)))


def test_more_layers_than_there_are_and_nothing_at_all_are_refused():
    with pytest.raises(ConfigError, match="count=5 is more than the model's 4 blocks"):
        names(LastLayers(count=5))
    with pytest.raises(ConfigError, match="leaves nothing of the model to train"):
        (Everything() - Everything()).freeze(LLAMA.build(0))


@pytest.mark.parametrize("optimizer", [AdamW(), Muon()], ids=["adamw", "muon"])
def test_what_is_frozen_has_no_gradient_and_no_state_and_does_not_move(optimizer):
    model, trainable = LLAMA.build(0), LastLayers(count=2) - Heads()
    chosen = names(trainable)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainable.freeze(model)
    built = optimizer.build(model)
    from bloomery.nn.layout import SequenceLayout

    tokens = torch.arange(24).view(2, 12)
    model(tokens, SequenceLayout.packed(torch.ones_like(tokens))).square().mean().backward()
    built.step()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == chosen
    assert {path.rsplit("|", 1)[0] for path in built.state()} == chosen
    assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == chosen


def test_freezing_twice_leaves_what_both_leave():
    model = LLAMA.build(0)
    LastLayers(count=2).freeze(model)
    (Everything() - Paths(paths=("norm",))).freeze(model)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == names(LastLayers(count=2)) - {"norm.weight"}
