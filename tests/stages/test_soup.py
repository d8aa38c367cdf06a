"""Means of weights: by the book, at their ends, and greedy soups that never are worse than their best ingredient."""

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import read_model
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.soup import Greedily, Interpolate, Soup
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Watch
from bloomery.store import Store, read_json
from tests.stages.test_train import HELD_OUT, MODEL, TOKENIZER, training

BASE = training(name="base", ema=None, watch=Watch(), steps=4)
TUNED = [training(name=f"tuned{seed}", init=Continue(base=BASE), ema=None, watch=Watch(), steps=3, seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True)


def weights(stage, context):
    return dict(read_model(stage.run(context).path / "model")[1].named_parameters())


def test_a_uniform_soup_is_the_mean(context):
    soup, first, second = (weights(one, context) for one in (Soup(models=tuple(TUNED)), *TUNED))
    for name, value in soup.items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2)
        assert not torch.equal(value, first[name])


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_interpolation_goes_from_the_base_to_the_tuned(context, alpha):
    stage = Interpolate(base=BASE, tuned=TUNED[0], alpha=alpha)
    between, base, tuned = (weights(one, context) for one in (stage, BASE, TUNED[0]))
    for name, value in between.items():
        torch.testing.assert_close(value, torch.lerp(base[name], tuned[name], alpha), rtol=1e-6, atol=1e-7)
    if alpha in (0.0, 1.0):
        assert all(torch.equal(value, (tuned if alpha else base)[name]) for name, value in between.items())
    assert stage.architecture == MODEL
    assert stage.vocabulary == TOKENIZER


def test_a_greedy_soup_is_never_worse_than_its_best_model(context):
    worse = training(name="worse", seed=9, ema=None, watch=Watch(), steps=1)  # fresh weights, with which no other has a mean
    artifact = Soup(name="greedy", models=(worse, *TUNED), choice=Greedily(tokens=HELD_OUT)).run(context)
    told = read_json(artifact.path / "soup.json")
    alone = {one["models"][0]: one["score"] for one in told["measured"] if len(one["models"]) == 1}
    assert worse.reference not in told["models"]
    assert told["models"][0] == max(alone, key=alone.__getitem__)
    assert max(one["score"] for one in told["measured"] if one["models"] == told["models"]) >= max(alone.values())


def test_models_that_have_no_mean_are_refused():
    wider = training(name="wider", init=Scratch(model=MODEL.replace(d_model=32)), ema=None, watch=Watch())
    with pytest.raises(ConfigError, match="only weights of one architecture have a mean"):
        Soup(models=(BASE, wider))
    with pytest.raises(ConfigError, match=r"Interpolate\.alpha"):
        Interpolate(base=BASE, tuned=TUNED[0], alpha=1.5)
