"""An agent in its environment: the physics, the rows of what it did, and that it learns."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.agent import AgentConfig
from bloomery.objectives import Entropy, Models, PolicyGradient, ValueLoss
from bloomery.stages.play import Play
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.train.credit import GAE
from bloomery.train.play import CartPole, Episodes, Gymnasium, Moment, returns_of
from bloomery.train.play.cart_pole import pushed

AGENT = AgentConfig(n_observed=4, n_actions=2, d_model=16)


def source(seed=0, longest=500, time=16, epochs=3, agent=None) -> Episodes:
    state = SimpleNamespace(model=agent or AGENT.build(seed))
    return Episodes(CartPole(longest=longest), state, GAE(discount=0.9, trace=0.8), copies=4, time=time, epochs=epochs, seed=seed)


def test_a_push_is_that_of_the_equations():
    """One step by hand, from the equations of Barto, Sutton and Anderson with the constants of CartPole-v1."""
    state = np.array([[0.1, -0.2, 0.05, 0.3]])
    push = (10 + 0.05 * 0.3**2 * np.sin(0.05)) / 1.1
    turning = (9.8 * np.sin(0.05) - np.cos(0.05) * push) / (0.5 * (4 / 3 - 0.1 * np.cos(0.05) ** 2 / 1.1))
    gaining = push - 0.05 * turning * np.cos(0.05) / 1.1
    by_hand = [[0.1 - 0.02 * 0.2, -0.2 + 0.02 * gaining, 0.05 + 0.02 * 0.3, 0.3 + 0.02 * turning]]
    np.testing.assert_allclose(pushed(state, np.array([1])), by_hand, atol=1e-12)
    mirrored = pushed(-state, np.array([0]))
    np.testing.assert_allclose(mirrored, -np.array(by_hand), atol=1e-12)


def test_our_cart_is_gymnasiums():
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed; the equations are tested above")
    theirs, ours = gymnasium.make("CartPole-v1"), CartPole().open(1, seed=0)
    rng = np.random.default_rng(0)
    for episode in range(5):
        theirs.reset(seed=episode)
        ours.begin(np.array([True]))
        ours.states[0] = theirs.unwrapped.state
        over = False
        while not over:
            action = int(rng.integers(2))
            observed, reward, ended, cut, _ = theirs.step(action)
            moment = ours.act(np.array([action]))
            np.testing.assert_allclose(moment.observed[0], observed, atol=1e-5)
            assert (moment.rewards[0], moment.ended[0], moment.cut[0]) == (reward, ended, cut)
            over = ended or cut


def test_an_episode_ends_where_the_pole_falls_and_is_cut_where_time_is_up():
    falls, short = CartPole().open(2, seed=0), CartPole(longest=3).open(2, seed=0)
    for world, ended in ((falls, True), (short, False)):
        world.begin(np.ones(2, bool))
        for _ in range(3 if not ended else 100):
            moment = world.act(np.array([1, 1]))
            if moment.ended.any():
                break
        assert moment.ended.any() == ended
        assert moment.cut.all() != ended
        before = world.states.copy()
        world.begin(np.array([True, False]))
        assert np.abs(world.states[0]).max() <= 0.05
        np.testing.assert_array_equal(world.states[1], before[1])


def test_rows_are_what_was_done_with_what_was_thought_then():
    episodes = source()
    agent, batch = episodes.state.model, source().batch(0, 4)
    logits, values = agent.both(batch.tokens)
    logprobs = torch.log_softmax(logits.double(), -1).gather(-1, batch.targets[..., None])[..., 0]
    torch.testing.assert_close(batch.samples.logprobs, logprobs.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(batch.samples.values, values, rtol=1e-5, atol=1e-6)
    assert set(batch.targets.flatten().tolist()) == {0, 1}
    moved = pushed(batch.tokens[0, :1].double().numpy(), batch.targets[0, :1].numpy())
    np.testing.assert_allclose(batch.tokens[0, 1], moved[0], atol=1e-6)


def test_a_round_is_yielded_in_epochs_and_then_life_goes_on():
    episodes, again = source(), source()
    rounds = [episodes.batch(row, 4) for row in range(0, 6 * 4, 4)]
    assert all(torch.equal(rounds[0].tokens, one.tokens) for one in rounds[1:3])
    assert not torch.equal(rounds[0].tokens, rounds[3].tokens)
    parts = [again.batch(0, 2), again.batch(2, 2)]
    assert torch.equal(torch.cat([part.tokens for part in parts]), rounds[0].tokens)
    assert torch.equal(torch.cat([part.samples.advantages for part in parts]), rounds[0].samples.advantages)


class Clock:
    """A world of two copies that earn 1 a step; the first ends, the second is cut, each after its second step."""

    def __init__(self):
        self.t = np.zeros(2, int)

    def begin(self, copies):
        self.t[copies] = 0
        return np.repeat(self.t[:, None], 4, 1).astype(float)

    def act(self, actions):
        self.t += 1
        over = self.t == 2
        return Moment(np.repeat(self.t[:, None], 4, 1).astype(float), np.ones(2), over & [True, False], over & [False, True])


def test_what_could_have_come_counts_where_an_episode_was_cut_and_not_where_it_ended():
    class Clocks(CartPole):
        def open(self, copies, seed):
            return Clock()

    agent = AGENT.build(3)
    credit = GAE(discount=0.5, trace=0.0, advantages="plain")
    episodes = Episodes(Clocks(), SimpleNamespace(model=agent), credit, copies=2, time=3, epochs=1, seed=0)
    batch = episodes.batch(0, 2)
    values = [agent.both(torch.full((1, 1, 4), float(t)))[1].item() for t in range(3)]
    ended = [1 + 0.5 * values[1], 1.0, 1 + 0.5 * values[1]]
    cut = [1 + 0.5 * values[1], 1 + 0.5 * values[2], 1 + 0.5 * values[1]]
    torch.testing.assert_close(batch.samples.returns, torch.tensor([ended, cut]), rtol=1e-5, atol=1e-6)
    assert episodes.finished == [2.0, 2.0]


def test_losses_of_texts_are_losses_of_actions():
    batch, models = source().batch(0, 4), Models(AGENT.build(0))
    policy, value, entropy = (PolicyGradient() + 0.5 * ValueLoss() + 0.01 * Entropy())(models, batch)
    assert float(policy.metrics["moved"]) == pytest.approx(0, abs=1e-4)
    assert entropy.metrics["entropy"] / entropy.weight == pytest.approx(np.log(2), abs=0.01)
    error = (batch.samples.values - batch.samples.returns).square().sum() / 2
    torch.testing.assert_close(value.total.detach(), 0.5 * error, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_an_agent_learns_to_keep_the_pole_up(tmp_path):
    stage = Play(environment=CartPole(), moments=24_576, width=32)
    artifact = stage.run(RunContext(store=Store(tmp_path), quiet=True, trackers=()))
    untrained = returns_of(AGENT.build(0), CartPole(), 20, seed=1)
    assert artifact.manifest.summary["return"] > 3 * np.mean(untrained)
    assert {"metrics.jsonl", "model/config.json"} <= set(artifact.manifest.files)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_within_200_000_steps_the_pole_stays_up(tmp_path, seed):
    artifact = Play(environment=CartPole(), seed=seed).run(RunContext(store=Store(tmp_path), quiet=True, trackers=()))
    assert artifact.manifest.summary["moments"] <= 200_000
    assert artifact.manifest.summary["return"] >= 475


def test_a_library_that_is_not_there_is_named():
    try:
        import gymnasium  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"pip install 'bloomery\[gymnasium\]'"):
            _ = Gymnasium().n_actions
    else:
        assert (Gymnasium().n_observed, Gymnasium().n_actions) == (4, 2)
