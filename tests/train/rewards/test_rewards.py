"""Rewards: what is right, what is wrong, and the true reward of tales; and the watch over what they do to a policy."""

import json
import random

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import LlamaConfig
from bloomery.objectives import Models
from bloomery.text.tales import Tales
from bloomery.train.rewards import Answer, Format, KnownAnswer, Longer, Overlong, Proxies, Quantity, Reward, TrueTale

MODELS = Models(LlamaConfig(vocab_size=8, d_model=4, n_layers=1, n_heads=1, d_ff=4, max_seq_len=4).build(0))


def answer(text="", expected="", document="tales/0/train/farm/0", tokens=3) -> Answer:
    return Answer(document=document, prompt="", text=text, expected=expected, ids=range(5 + tokens), begins=5, ended=True)


@pytest.mark.parametrize(("reward", "text", "expected", "worth"), [
    (KnownAnswer(), " in the barn\n", "in the barn", 1.0), (KnownAnswer(), "in the barn.", "in the barn", 0.0), (KnownAnswer(), "", "in", 0.0),
    (Format(pattern=r"Answer: \d+"), "Answer: 12", "", 1.0), (Format(pattern=r"Answer: \d+"), "The Answer: 12", "", 0.0),
    (Format(pattern=r"<a>.*</a>"), "<a>1\n2</a>", "", 1.0),
    (Quantity(), "That is 3.5 km.", "3500 m", 1.0), (Quantity(), "3.5 m", "3.5 km", 0.0), (Quantity(), "3.5", "3.5 km", 0.0),
    (Quantity(), "12 and then 1,200 g", "1.2 kg", 1.0), (Quantity(), "none", "3", 0.0), (Quantity(), "-4 apples", "-4 pears", 1.0),
    (Quantity(tolerance=0.1), "95 s", "100 s", 1.0), (Quantity(), "95 s", "100 s", 0.0), (Quantity(), "90 min", "1.5 h", 1.0),
])  # fmt: skip
def test_what_an_answer_is_worth(reward, text, expected, worth):
    assert reward.scores([answer(text, expected)], MODELS) == [worth]


@pytest.mark.parametrize(("tokens", "longer", "overlong"), [(0, 0.0, 0.0), (4, 0.4, 0.0), (6, 0.6, -0.5), (8, 0.8, -1.0), (30, 1.0, -1.0)])
def test_length_is_paid_for_and_charged_for(tokens, longer, overlong):
    assert Longer(tokens=10).judge(answer(tokens=tokens)) == pytest.approx(longer)
    assert Overlong(free=4, most=8).judge(answer(tokens=tokens)) == pytest.approx(overlong)


@pytest.mark.parametrize("book", [Tales(size="tiny"), Tales(seed=3, domain="harbour", split="held_out"), Tales(size="short")], ids=Tales.name)
def test_the_true_reward_of_a_tale_is_that_of_its_world(book):
    for tale in book.tales(25):
        assert Tales.of_id(tale.id) == (book, int(tale.id.rpartition("/")[2]))
        assert TrueTale().judge(answer(tale.better, document=tale.id)) == 1
        assert TrueTale().judge(answer(tale.worse, document=tale.id)) == 0
        for wrong in ("", tale.better[:-1], tale.better + " " + tale.better, tale.text, "Much later, it was so."):
            assert TrueTale().judge(answer(wrong, document=tale.id)) == 0


def test_of_what_is_no_tale_there_is_no_truth():
    assert Tales.of_id("files/0/train/farm/0") is None
    with pytest.raises(DataError, match="is no tale"):
        TrueTale().judge(answer("It was.", document="somewhere.txt#3"))


def test_rewards_have_names_and_refuse_what_they_cannot_use():
    assert [one.called for one in (TrueTale(), KnownAnswer(), KnownAnswer(name="gold"))] == ["true_tale", "known_answer", "gold"]
    with pytest.raises(ConfigError, match="no regular expression"):
        Format(pattern="(")
    with pytest.raises(ConfigError, match="not above free=8; 9 would be"):
        Overlong(free=8, most=8)


def course(proxy, gold, steps=40, noise=0.02):
    rng = random.Random(0)
    for step in range(1, steps + 1):
        done = (step - 1) / (steps - 1)
        yield step, {"reward/longer": proxy * done + rng.gauss(0, noise), "reward/true_tale": 0.5 + gold * done + rng.gauss(0, noise)}


REWARDS = (Longer(tokens=20), TrueTale(weight=0.0))


def test_a_proxy_that_rises_at_the_cost_of_the_truth_is_named_once():
    watch = Proxies(REWARDS)
    said = [told for step, figures in course(0.5, -0.4) if (told := watch.note(step, figures))]
    assert len(said) == 1
    assert "mostly by longer" in said[0]
    assert "true_tale" in said[0]
    assert watch.told == said[0]


def test_a_truth_that_rises_first_is_measured_from_its_best():
    watch = Proxies(REWARDS)
    up, down = list(course(0.3, 0.4, steps=24)), list(course(0.1, -0.3, steps=24))
    falling = [{"reward/longer": 0.3 + one["reward/longer"], "reward/true_tale": 0.4 + one["reward/true_tale"]} for _, one in down]
    said = [watch.note(step, figures) for step, figures in enumerate([*(figures for _, figures in up), *falling], start=1)]
    assert not any(said[:24])
    assert sum(map(bool, said)) == 1, "it is above where it began at the end, and was higher"


def test_texts_that_come_again_are_looked_at_once():
    rng, watch, noted = random.Random(1), Proxies(REWARDS, fresh=1), []
    for step in range(90):  # few texts a round, of which half are true, and each round is learnt from twice
        if step % 2 == 0:
            figures = {"reward/longer": 0.01 * step + rng.gauss(0, 0.01), "reward/true_tale": 0.5 + rng.gauss(0, 0.1)}
        noted.append(watch.note(step, figures | {"age": float(step % 2)}))
    assert len(watch.history) == 45
    assert not any(noted)


@pytest.mark.parametrize(("proxy", "gold"), [(0.5, 0.4), (0.5, 0.0), (0.0, 0.0), (0.0, -0.4), (-0.5, 0.4)])
def test_what_does_not_cost_the_truth_is_not_complained_of(proxy, gold):
    watch = Proxies(REWARDS)
    assert not any(watch.note(step, figures) for step, figures in course(proxy, gold))


def test_the_watch_goes_on_from_what_was_written(tmp_path):
    lines = [{"step": step, **figures} for step, figures in course(0.5, -0.4)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines[:20], {"step": 99, "loss": 1.0}]))
    resumed, straight = Proxies(REWARDS, tmp_path / "metrics.jsonl", 20), Proxies(REWARDS)
    for step, figures in ((line["step"], line) for line in lines):
        straight.note(step, figures)
        if step > 20:
            resumed.note(step, figures)
    assert resumed.told == straight.told != ""


def test_nothing_is_watched_where_all_is_learnt_from():
    watch = Proxies((Longer(tokens=20), TrueTale()))
    assert not any(watch.note(step, figures) for step, figures in course(0.5, -0.4))


def test_a_reward_may_look_at_all_answers_and_at_models():
    class Rarest(Reward):
        """For a test."""

        def scores(self, answers, models):
            return [1.0 / [a.text for a in answers].count(a.text) for a in answers]

    assert Rarest().scores([answer("a"), answer("a"), answer("b")], MODELS) == [0.5, 0.5, 1.0]
