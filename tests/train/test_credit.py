"""Credit assignment by the book: closed forms, laws, and the loops of the papers written out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.train.credit import GAE, Credit, Earned, GroupRelative, LeaveOneOut, Reinforce, StepRelative, gae, whitened

PROMPTS = np.array([0, 0, 0, 1, 1, 1])


def earned(seed=0, rewards=None, tolls=True, rows=6, time=9) -> Earned:
    """Texts of 1 to 5 tokens, somewhere in their rows."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((rows, time), bool)
    for row, (begin, length) in enumerate(zip(rng.integers(0, 4, rows), rng.integers(1, 6, rows), strict=True)):
        drawn[row, begin : begin + length] = True
    given = rng.normal(size=rows) if rewards is None else np.array(rewards, float)
    return Earned(given, drawn, 0.1 * rng.normal(size=drawn.shape) * drawn * tolls, PROMPTS[:rows], rng.normal(size=drawn.shape))


def test_a_text_is_worth_what_it_earned_less_what_it_cost():
    some = earned()
    by_hand = [reward - sum(toll for toll, is_drawn in zip(tolls, drawn, strict=True) if is_drawn)
               for reward, tolls, drawn in zip(some.rewards, some.tolls, some.drawn, strict=True)]  # fmt: skip
    np.testing.assert_allclose(some.returns, by_hand, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_is_the_reward_less_the_mean_of_the_others(seed):
    some = earned(seed)
    worth = LeaveOneOut().worth(some)
    for i, (prompt, own) in enumerate(zip(PROMPTS, some.returns, strict=True)):
        others = [r for j, (p, r) in enumerate(zip(PROMPTS, some.returns, strict=True)) if p == prompt and j != i]
        np.testing.assert_allclose(worth.advantages[i], (own - np.mean(others)) * some.drawn[i], atol=1e-12)


def test_a_text_without_others_is_worth_nothing():
    alone = Earned(np.ones(2), np.ones((2, 3), bool), np.zeros((2, 3)), np.array([0, 1]))
    assert not LeaveOneOut().worth(alone).advantages.any()
    assert not GroupRelative().worth(alone).advantages.any()


@pytest.mark.parametrize(("scale", "divisor"), [
    ("group", lambda r, g: np.std(g, ddof=1) + 1e-4), ("round", lambda r, g: np.std(r, ddof=1) + 1e-4), ("none", lambda r, g: 1.0),
])  # fmt: skip
def test_group_relative_advantages_are_those_of_the_formula(scale, divisor):
    some = earned(4)
    worth, returns = GroupRelative(scale=scale).worth(some), some.returns
    apart = returns - np.repeat([returns[:3].mean(), returns[3:].mean()], 3)
    for i in range(6):
        group = returns[:3] if i < 3 else returns[3:]
        np.testing.assert_allclose(worth.advantages[i], apart[i] / divisor(returns, group) * some.drawn[i], atol=1e-6)


def test_groups_that_all_earned_the_same_can_be_left_out():
    some = earned(rewards=[1, 1, 1, 0, 1, 0], tolls=False)
    assert GroupRelative(flat="left_out").worth(some).counts.tolist() == [False] * 3 + [True] * 3
    assert GroupRelative().worth(some).counts.all()
    assert not GroupRelative().worth(some).advantages[:3].any()


def test_a_baseline_of_the_round_takes_its_mean_away():
    some = earned(2)
    plain, less = Reinforce(baseline="none").worth(some), Reinforce().worth(some)
    np.testing.assert_allclose(plain.advantages, some.returns[:, None] * some.drawn, atol=1e-12)
    np.testing.assert_allclose((plain.advantages - less.advantages)[some.drawn], some.returns.mean(), atol=1e-12)


def by_the_book(some: Earned, gamma: float, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """GAE as the double sum of its paper, text by text."""
    advantages, returns = np.zeros(some.drawn.shape), np.zeros(some.drawn.shape)
    for row, drawn in enumerate(some.drawn):
        places = np.flatnonzero(drawn)
        at_the_end = {places[-1]: some.rewards[row]}
        rewards = [(at_the_end.get(t, 0.0) if some.placed is None else some.placed[row, t]) - some.tolls[row, t] for t in places]
        values = [*some.values[row, places], 0.0]
        errors = [r + gamma * values[k + 1] - values[k] for k, r in enumerate(rewards)]
        for k, t in enumerate(places):
            advantages[row, t] = sum((gamma * lam) ** n * error for n, error in enumerate(errors[k:]))
            returns[row, t] = advantages[row, t] + values[k]
    return advantages, returns


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (0.99, 1.0), (1.0, 0.0)])
def test_gae_is_the_double_sum_of_its_paper(gamma, lam):
    some = earned(7)
    advantages, returns = by_the_book(some, gamma, lam)
    worth = GAE(discount=gamma, trace=lam, advantages="plain").worth(some)
    np.testing.assert_allclose(worth.advantages, advantages, atol=1e-9)
    np.testing.assert_allclose(worth.returns, returns, atol=1e-9)


def in_steps(seed: int) -> Earned:
    """Texts of which some tokens earn something by themselves."""
    some, rng = earned(seed), np.random.default_rng(seed + 1)
    placed = np.where(some.drawn & ((rng.random(some.drawn.shape) < 0.4) | some.ends), rng.normal(size=some.drawn.shape), 0.0)
    return replace(some, rewards=placed.sum(1), placed=placed)


def test_gae_credits_what_is_earned_on_the_way_to_what_led_there():
    some = in_steps(7)
    advantages, returns = by_the_book(some, 0.9, 0.5)
    worth = GAE(discount=0.9, trace=0.5, advantages="plain").worth(some)
    np.testing.assert_allclose(worth.advantages, advantages, atol=1e-9)
    np.testing.assert_allclose(worth.returns, returns, atol=1e-9)


@given(st.integers(0, 10_000))
def test_step_relative_advantages_are_those_of_the_formula(seed):
    some = in_steps(seed)
    steps = []  # (prompt, text, token with which it ends, what it earned less what it cost)
    for row, drawn in enumerate(some.drawn):
        cost = 0.0
        for t in np.flatnonzero(drawn):
            cost += some.tolls[row, t]
            if some.placed[row, t]:
                steps.append((PROMPTS[row], row, t, some.placed[row, t] - cost))
                cost = 0.0
    wanted = np.zeros(some.drawn.shape)
    for prompt, row, end, own in steps:
        group = [r for p, _, _, r in steps if p == prompt]
        wanted[row, : end + 1] += (own - np.mean(group)) / (np.std(group, ddof=1 if len(group) > 1 else 0) + 1e-4)
    np.testing.assert_allclose(StepRelative().worth(some).advantages, wanted * some.drawn, atol=1e-6)


@given(st.integers(0, 10_000))
def test_of_texts_that_are_one_step_each_step_relative_is_group_relative(seed):
    some = earned(seed)
    np.testing.assert_allclose(StepRelative().worth(some).advantages, GroupRelative().worth(some).advantages, atol=1e-9)


def test_returns_are_those_before_whitening():
    some = earned(7)
    plain, white = (GAE(advantages=how).worth(some) for how in ("plain", "whitened"))
    np.testing.assert_array_equal(plain.returns, white.returns)
    np.testing.assert_allclose(white.advantages, whitened(plain.advantages, some.drawn), atol=1e-12)


@given(st.integers(0, 10_000))
def test_at_its_limits_gae_is_the_return_less_the_value_and_the_error_of_one_step(seed):
    some = earned(seed)
    drawn, ends = some.drawn, some.ends
    rewards = np.where(ends, some.rewards[:, None], 0.0) - some.tolls * drawn
    to_come = np.flip(np.flip(rewards, 1).cumsum(1), 1)
    whole = GAE(trace=1.0, advantages="plain").worth(some)
    np.testing.assert_allclose(whole.advantages, (to_come - some.values) * drawn, atol=1e-9)
    after = np.zeros_like(some.values)
    after[:, :-1] = some.values[:, 1:]
    step = GAE(trace=0.0, discount=0.9, advantages="plain").worth(some)
    np.testing.assert_allclose(step.advantages, (rewards + 0.9 * np.where(ends, 0, after) - some.values) * drawn, atol=1e-9)


def test_a_course_that_was_cut_off_goes_on_in_the_value_behind_it():
    rewards, values, after = np.ones((1, 3)), np.array([[5.0, 4.0, 3.0]]), np.array([[4.0, 3.0, 2.0]])
    ended, cut = (gae(rewards, values, np.where([[1, 1, last]], after, 0), np.array([[True, True, False]]), 1.0, 1.0) for last in (0, 1))
    np.testing.assert_allclose(ended, [[3 - 5, 2 - 4, 1 - 3]], atol=1e-12)
    np.testing.assert_allclose(cut - ended, np.full((1, 3), 2.0), atol=1e-12)


def test_the_reward_stands_on_the_last_token_that_was_drawn():
    some = earned(3, rewards=np.arange(1, 7), tolls=False)
    values = Earned(some.rewards, some.drawn, some.tolls, some.prompts, np.zeros(some.drawn.shape))
    worth = GAE(trace=0.0, advantages="plain").worth(values)
    for row in range(6):
        last = np.flatnonzero(some.drawn[row])[-1]
        assert worth.advantages[row, last] == row + 1
        assert np.count_nonzero(worth.advantages[row]) == 1


@given(st.integers(0, 10_000), st.floats(-50, 50), st.floats(0.01, 50))
def test_whitening_centres_and_scales_and_knows_no_shift_nor_size(seed, shift, size):
    rng = np.random.default_rng(seed)
    numbers, where = rng.normal(size=(4, 6)), rng.random((4, 6)) < 0.7
    where[0, :3] = True
    white = whitened(size * numbers + shift, where)
    assert abs(white[where].mean()) < 1e-9
    assert white[where].var(ddof=1) == pytest.approx(1, abs=1e-3)
    assert not white[~where].any()
    np.testing.assert_allclose(white, whitened(numbers, where), atol=1e-3)


@pytest.mark.parametrize("credit", [Reinforce(), LeaveOneOut(), GroupRelative(), StepRelative(), GAE()], ids=lambda credit: credit.kind())
def test_what_prompts_and_padding_hold_is_worth_nothing(credit: Credit):
    some = earned(5)
    worth = credit.worth(some)
    assert not worth.advantages[~some.drawn].any()
    assert worth.advantages[some.drawn].any()
    assert worth.returns is None or not worth.returns[~some.drawn].any()
