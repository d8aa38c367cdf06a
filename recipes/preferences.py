"""From preferences to a model that has them: a reward model and what a policy earns by it, and direct methods beside it, on tales."""

from __future__ import annotations

from typing import Any

from bloomery.data import Compared, Each, Fit
from bloomery.data.encodings import Chat
from bloomery.data.pairs import Pairs
from bloomery.models import LlamaConfig, RegressionConfig
from bloomery.nn import LastPoolingConfig, WiredInit
from bloomery.objectives import DPO, IPO, ORPO, BradleyTerry, Objective, OverBudget, PolicyGradient, SimPO
from bloomery.optim import AdamW, Constant, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_optimizer
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.paired import Way
from bloomery.stages.policies import Policies
from bloomery.stages.preferences import Preferences
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.text.readers import TaleContinuations, TalePreferences, TaleStories
from bloomery.text.tales import Tales
from bloomery.train.credit import LeaveOneOut
from bloomery.train.earnings import Earns, Toll
from bloomery.train.rewards import Scored, TrueTale
from bloomery.train.rollouts import Rollout

TIME, NEW, SAMPLES = 224, 28, 8


def preferences(
    *, stories: int = 8000, talks: int = 4000, pairs: int = 12_000, base_steps: int = 500, chat_steps: int = 250, reward_steps: int = 1200,
    direct_steps: int = 150, paid_steps: int = 60, prompts: int = 8, wrong: float = 0.5, beta: float = 0.1, toll: float = 0.05,
    rate: float = 1e-3, direct_rate: float = 3e-4, seeds: int = 3, d_model: int = 64, n_layers: int = 4, seed: int = 0,
) -> Recipe:
    """A model learns to go on with tales from writers of whom `wrong` did not look. Of each pair of sentences the one that the tale's world
    makes true is preferred: a reward model learns that, and the tuned model is paid by it (the true reward is only watched), or learns from the
    pairs directly. All are compared by the truth of what they write, in worlds that none has read of.
    """
    read, unread = (Tales(seed=seed, domain="farm", size="tiny", split=split) for split in ("train", "held_out"))
    corpus = Prepare(name="stories", source=TaleStories(tales=read, count=stories))
    talk = Prepare(name="talks", source=TaleContinuations(tales=read, first=stories, count=talks, wrong=wrong))
    ranked = Prepare(name="pairs", source=TalePreferences(tales=read, first=stories + talks, count=pairs))
    aside = Prepare(name="pairs_aside", source=TalePreferences(tales=unread, count=1000))
    asked = Prepare(name="asked", source=TaleContinuations(tales=read, first=stories + talks + pairs, count=talks))
    prompts_aside = Prepare(name="prompts_aside", source=TaleContinuations(tales=unread, first=1000, count=1000))
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=768, sample_bytes=4 << 20)

    def tokens(of: Prepare, **encoding: Any) -> Tokenize:
        return Tokenize(name=of.name, corpus=of, tokenizer=tokenizer, **encoding)

    story_tokens = tokens(corpus)
    talk_tokens, asked_tokens, prompt_tokens = (tokens(one, encoding=Chat()) for one in (talk, asked, prompts_aside))
    pair_tokens, aside_tokens = (tokens(one, encoding=Pairs(max_tokens=TIME)) for one in (ranked, aside))
    model = LlamaConfig(
        vocab_size=768, d_model=d_model, n_layers=n_layers, n_heads=4, d_ff=round(2.75 * d_model), max_seq_len=2 * TIME,
        init=WiredInit(embedding=0.4),
    )  # fmt: skip
    common: dict[str, Any] = {"tokenizer": tokenizer, "packing": Fit(), "max_seq_len": 256}
    base = Train(
        name="base", init=Scratch(model=model), sources=(Share(tokens=story_tokens),), batch_tokens=2048, steps=base_steps, seed=seed,
        optimizer=tale_optimizer(3e-3, 1e-2), **common,
    )  # fmt: skip
    chat = Train(
        name="chat", init=Continue(base=base), sources=(Share(tokens=talk_tokens),), batch_tokens=2048, steps=chat_steps, seed=seed,
        optimizer=tale_optimizer(2e-3, 5e-3), **common,
    )  # fmt: skip
    paired = common | {"sources": (Share(tokens=pair_tokens),), "task": Compared(), "max_seq_len": 2 * TIME, "batch_tokens": 16 * TIME}

    def reward_model(number: int) -> Train:
        head = RegressionConfig(name="reward", pooling=LastPoolingConfig())
        return Train(
            name=f"reward_{number}", init=HeadsOn(init=Continue(base=chat), heads=(head,)), objective=BradleyTerry(centring=0.01),
            optimizer=tale_optimizer(2e-3, 5e-3), schedule=WarmupCosine(), steps=reward_steps, seed=seed + number, **paired,
        )  # fmt: skip

    def direct(name: str, number: int, objective: Objective) -> Train:
        return Train(
            name=f"{name}_{number}", init=Continue(base=chat), objective=objective, schedule=WarmupCosine(), steps=direct_steps,
            optimizer=AdamW(learning_rate=direct_rate, weight_decay=0.0), seed=seed + number, **paired,
        )  # fmt: skip

    def paid(number: int) -> Train:
        earns = Earns(
            rewards=(Scored(by=reward_model(number)), TrueTale(weight=0.0)), credit=LeaveOneOut(), reference=chat, toll=Toll(beta=toll),
        )  # fmt: skip
        return Train(
            name=f"paid_{number}", tokenizer=tokenizer, init=Continue(base=chat), sources=(Share(tokens=asked_tokens),), packing=Each(),
            objective=PolicyGradient(clip=None, over=OverBudget(tokens=NEW)), optimizer=AdamW(learning_rate=rate, weight_decay=0.0),
            schedule=Constant(warmup=5), max_seq_len=TIME, batch_tokens=prompts * SAMPLES * TIME, steps=paid_steps, seed=seed + number,
            healing=None, rollout=Rollout(max_new_tokens=NEW, samples=SAMPLES, earns=earns),
        )  # fmt: skip

    methods: dict[str, Objective] = {
        "dpo": DPO(reference=chat, beta=beta), "ipo": IPO(reference=chat, beta=beta), "simpo": SimPO(), "orpo": ORPO(strength=1.0),
    }  # fmt: skip
    ways = (
        Way(name="paid", runs=tuple(map(paid, range(seeds)))),
        *(Way(name=name, runs=tuple(direct(name, i, objective) for i in range(seeds))) for name, objective in methods.items()),
    )
    judged = [
        Preferences(name=f"reward_{i}", model=reward_model(i), head="reward", pairs=aside_tokens, max_seq_len=2 * TIME) for i in range(seeds)
    ]  # fmt: skip
    compared = Policies(
        name="preferences", title="The true reward, by a reward model and by pairs themselves", before=chat, ways=ways, prompts=prompt_tokens,
        rewards=(TrueTale(), Scored(by=reward_model(0), weight=0.0)), max_seq_len=TIME, max_new_tokens=NEW,
    )  # fmt: skip
    return Recipe(name="preferences", wanted=(*judged, compared))
