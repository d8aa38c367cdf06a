"""Several models asked as one."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.generate import complete
from bloomery.models import (
    BertConfig,
    EnsembleConfig,
    EnsembleModel,
    LlamaConfig,
    MultipleChoiceConfig,
    RegressionConfig,
    SequenceClassificationConfig,
    SimilarityConfig,
    TaskConfig,
    read_model,
    write_model,
)
from bloomery.nn import LastPoolingConfig
from bloomery.nn.layout import SequenceLayout

SIZES = {"vocab_size": 40, "d_model": 16, "n_heads": 2, "d_ff": 32, "max_seq_len": 32}
SMALL, DEEP = LlamaConfig(n_layers=1, **SIZES), LlamaConfig(n_layers=2, **SIZES)
TOKENS = torch.arange(24).view(2, 12) % 40
LAYOUT = SequenceLayout.packed(torch.tensor([[1] * 6 + [2] * 6, [1] * 12]))


def ensemble(configs, mean, shared=()):
    models = [config.build(seed) for seed, config in enumerate(configs)]
    return models, EnsembleModel(EnsembleConfig(members=tuple(configs), mean=mean, shared=shared), models).eval()


def naive(scores, mean):
    if mean == "logits":
        return sum(scores) / len(scores)
    return torch.log(sum(torch.exp(one) / torch.exp(one).sum(-1, keepdim=True) for one in scores) / len(scores))


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_next_tokens_are_told_by_the_mean(mean):
    models, together = ensemble([SMALL, DEEP, SMALL], mean)
    wanted = naive([model(TOKENS, LAYOUT) for model in models], mean)
    torch.testing.assert_close(together(TOKENS, LAYOUT), wanted, atol=1e-5, rtol=1e-5)
    features, weights = together.features(TOKENS, LAYOUT).flatten(0, 1), torch.rand(24)
    total, nll = together.head.cross_entropy(features, TOKENS.flatten(), weights)
    each = -wanted.flatten(0, 1).log_softmax(-1)[torch.arange(24), TOKENS.flatten()]
    torch.testing.assert_close(total, (weights * each).sum(), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(nll, total.detach())


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_labels_are_told_by_the_mean_and_numbers_are_averaged(mean):
    heads = (
        SequenceClassificationConfig(name="mood", n_labels=3), MultipleChoiceConfig(name="which", n_choices=3), RegressionConfig(name="stars"),
        SimilarityConfig(name="near"),
    )  # fmt: skip
    models, together = ensemble([TaskConfig(base=BertConfig(n_layers=n, **SIZES), heads=heads) for n in (1, 2)], mean)
    layout = SequenceLayout.packed(torch.tensor([[1] * 6 + [2] * 6, [1] * 12]), causal=False)
    told, found = [model.scores(TOKENS, layout) for model in models], together.scores(TOKENS, layout)
    torch.testing.assert_close(found["mood"], naive([one["mood"] for one in told], mean), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["which"][0, 0, :2].softmax(-1), naive([one["which"] for one in told], mean)[0, 0, :2].softmax(-1))
    torch.testing.assert_close(found["stars"], (told[0]["stars"] + told[1]["stars"]) / 2)
    products = [one["near"][0, 0] @ one["near"][0, 6] for one in (*told, found)]  # how alike two documents are
    torch.testing.assert_close(products[2], (products[0] + products[1]) / 2)


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_one_alone_says_what_it_says_bit_for_bit(mean):
    (model,), together = ensemble([DEEP], mean)
    assert torch.equal(together(TOKENS, LAYOUT), model(TOKENS, LAYOUT))
    task = TaskConfig(base=SMALL, heads=(SequenceClassificationConfig(name="mood", n_labels=3, pooling=LastPoolingConfig()),))
    (model,), together = ensemble([task], mean)
    assert torch.equal(together.scores(TOKENS, LAYOUT)["mood"], model.scores(TOKENS, LAYOUT)["mood"])


def test_it_writes_text_through_the_caches_of_its_members():
    _, together = ensemble([SMALL, DEEP], "probabilities")
    prompts = [[1, 2, 3], [7, 8], [9]]
    for prompt, answer in zip(prompts, complete(together, prompts, {0}, 6), strict=True):
        ids = list(prompt)
        for token in answer:
            logits = together(torch.tensor([ids]), SequenceLayout.packed(torch.ones(1, len(ids), dtype=torch.long)))
            assert int(logits[0, -1].argmax()) == token
            ids.append(token)


def test_what_members_share_is_kept_once_and_read_back(tmp_path):
    first, second = SMALL.build(0), SMALL.build(1)
    with torch.no_grad():
        second.embedding.weight.copy_(first.embedding.weight)
        second.blocks[0].mixer.qkv.weight.copy_(first.blocks[0].mixer.qkv.weight)
    shared = ("embedding.weight", "blocks.0.mixer.qkv.weight")
    apart = EnsembleModel(EnsembleConfig(members=(SMALL, SMALL)), [first, second]).eval()
    wanted = apart(TOKENS, LAYOUT)
    config = EnsembleConfig(members=(SMALL, SMALL), shared=shared)
    write_model(tmp_path, config, EnsembleModel(config, [first, second]))
    read, model = read_model(tmp_path)
    assert read == config
    assert config.n_params == 2 * SMALL.n_params - first.embedding.weight.numel() - first.blocks[0].mixer.qkv.weight.numel()
    assert model.members[1].embedding.weight is model.members[0].embedding.weight
    assert torch.equal(model.eval()(TOKENS, LAYOUT), wanted)


@pytest.mark.parametrize(("others", "rule"), [
    (SMALL.replace(vocab_size=48), "have vocab_size=40 and 48; only models that read the same tokens"),
    (BertConfig(n_layers=1, **SIZES), "have reads_forward=True and False"),
    (SMALL.replace(d_model=32), "have d_model=16 and 32; for the vocabulary it must be one"),
    (TaskConfig(base=SMALL, heads=(SequenceClassificationConfig(name="mood", n_labels=3, pooling=LastPoolingConfig()),)), "give them the same"),
])  # fmt: skip
def test_models_that_speak_of_different_things_are_refused(others, rule):
    with pytest.raises(ConfigError, match=rule):
        EnsembleConfig(members=(SMALL, others))
