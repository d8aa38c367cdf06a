"""A policy that earns what it is worth: a model that has learnt from writers of whom half did not look is made to tell the truth, by REINFORCE
with baselines, GRPO and PPO; and one that is paid for length, which is noticed."""

from __future__ import annotations

from typing import Any

from bloomery.data import Each, Fit
from bloomery.data.encodings import Chat
from bloomery.models import LlamaConfig
from bloomery.models.heads import ValueConfig
from bloomery.nn import WiredInit
from bloomery.objectives import Objective, OverBudget, OverSequences, PolicyGradient, ReferenceKL, ValueLoss
from bloomery.optim import AdamW, Constant
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_optimizer
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Init, Scratch
from bloomery.stages.paired import Way
from bloomery.stages.policies import Policies
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.text.readers import TaleContinuations, TaleStories
from bloomery.text.tales import Tales
from bloomery.train.credit import GAE, Credit, GroupRelative, LeaveOneOut
from bloomery.train.earnings import Earns, Toll
from bloomery.train.rewards import Longer, TrueTale
from bloomery.train.rollouts import Rollout

SAMPLES = 8  # texts to a prompt


def policy(
    *, stories: int = 8000, talks: int = 4000, base_steps: int = 500, chat_steps: int = 250, steps: int = 45, prompts: int = 8,
    wrong: float = 0.5, rate: float = 1e-3, beta: float = 0.02, seeds: int = 3, d_model: int = 64, n_layers: int = 2, seed: int = 0,
) -> Recipe:
    """The true reward is 1 for a next sentence that the tale's world makes true. `wrong` is the share of demonstrations that contradict it,
    `prompts` how many a step writes to, eight texts each; `beta` is what a nat away from the tuned model costs.
    """
    read, unread = Tales(seed=seed, domain="farm", size="tiny"), Tales(seed=seed, domain="farm", size="tiny", split="held_out")
    corpus = Prepare(name="stories", source=TaleStories(tales=read, count=stories))
    talk = Prepare(name="talks", source=TaleContinuations(tales=read, first=stories, count=talks, wrong=wrong))
    asked = Prepare(name="asked", source=TaleContinuations(tales=read, first=stories + talks, count=talks))
    aside = Prepare(name="aside", source=TaleContinuations(tales=unread, count=1000))
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=768, sample_bytes=4 << 20)
    story_tokens = Tokenize(name="stories", corpus=corpus, tokenizer=tokenizer)
    talk_tokens, asked_tokens, aside_tokens = (
        Tokenize(name=one.name, corpus=one, tokenizer=tokenizer, encoding=Chat()) for one in (talk, asked, aside)
    )  # fmt: skip
    model = LlamaConfig(
        vocab_size=768, d_model=d_model, n_layers=n_layers, n_heads=4, d_ff=round(2.75 * d_model), max_seq_len=256,
        init=WiredInit(embedding=0.4),
    )  # fmt: skip
    base = Train(
        name="base", tokenizer=tokenizer, init=Scratch(model=model), sources=(Share(tokens=story_tokens),), packing=Fit(), max_seq_len=256,
        batch_tokens=2048, steps=base_steps, optimizer=tale_optimizer(3e-3, 1e-2), seed=seed,
    )  # fmt: skip
    chat = Train(
        name="chat", tokenizer=tokenizer, init=Continue(base=base), sources=(Share(tokens=talk_tokens),), packing=Fit(), max_seq_len=256,
        batch_tokens=2048, steps=chat_steps, optimizer=tale_optimizer(2e-3, 5e-3), seed=seed,
    )  # fmt: skip
    time, new = 224, 28

    def paid(name: str, number: int, credit: Credit, objective: Objective, **changes: Any) -> Train:
        """The tuned model, paid for truth."""
        init: Init = changes.pop("init", Continue(base=chat))
        rewards = changes.pop("rewards", (TrueTale(),))
        earns = Earns(rewards=rewards, credit=credit, reference=chat, toll=Toll(beta=changes.pop("beta", beta)))
        updates = AdamW(learning_rate=changes.pop("rate", rate), weight_decay=0.0)
        rollout = Rollout(max_new_tokens=new, samples=changes.pop("samples", SAMPLES), earns=earns, **changes)
        return Train(
            name=f"{name}_{number}", tokenizer=tokenizer, init=init, sources=(Share(tokens=asked_tokens),), packing=Each(), rollout=rollout,
            objective=objective, optimizer=updates, schedule=Constant(warmup=5), max_seq_len=time,
            batch_tokens=prompts * SAMPLES * time, steps=steps * changes.get("every", 1), seed=seed + number, healing=None,
        )  # fmt: skip

    plain = PolicyGradient(clip=None, over=OverBudget(tokens=new))
    with_value = HeadsOn(init=Continue(base=chat), heads=(ValueConfig(),), language_head=True)

    def way(name: str, credit: Credit, objective: Objective, runs: int = seeds, **changes: Any) -> Way:
        return Way(name=name, runs=tuple(paid(name, number, credit, objective, **changes) for number in range(runs)))

    ways = (
        way("rloo", LeaveOneOut(), plain),
        way("grpo", GroupRelative(), PolicyGradient(over=OverSequences()) + beta * ReferenceKL(estimator="k3"), beta=0.0),
        way("ppo", GAE(), PolicyGradient() + 0.1 * ValueLoss(), init=with_value, every=2, epochs=2, samples=1, rate=0.4 * rate),
        way("length", LeaveOneOut(), plain, runs=1, rewards=(Longer(tokens=new), TrueTale(weight=0.0)), beta=0.0),
    )
    compared = Policies(
        name="policy", title="The true reward before and after, and what it cost", before=chat, ways=ways, prompts=aside_tokens,
        rewards=(TrueTale(), Longer(tokens=new, weight=0.0)), max_seq_len=time, max_new_tokens=new,
    )  # fmt: skip
    return Recipe(name="policy", wanted=(compared,))
