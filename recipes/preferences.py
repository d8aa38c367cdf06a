"""From preferences to a model that has them, as a whole: a base, a tuned model, a judge that learns from pairs, and policies that it pays, by
REINFORCE with baselines, GRPO and PPO; beside them direct methods, which learn from the pairs themselves. All on tales, by the truth."""

from __future__ import annotations

from typing import Any

from bloomery.core.errors import ConfigError, did_you_mean
from bloomery.data import Compared, Each, Fit, RowTask, Unpaired
from bloomery.data.encodings import Chat, Encoding, Plain
from bloomery.data.pairs import Pairs, Verdicts
from bloomery.models import LlamaConfig
from bloomery.models.heads import ValueConfig
from bloomery.nn import WiredInit
from bloomery.objectives import DPO, IPO, KTO, ORPO, Objective, OverBudget, OverSequences, PolicyGradient, SimPO, ValueLoss
from bloomery.optim import AdamW, Constant, Everything, Heads, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_optimizer
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.left_by import LeftBy
from bloomery.stages.own_pairs import OwnPairs
from bloomery.stages.paired import Way
from bloomery.stages.policies import Policies
from bloomery.stages.preferences import Preferences
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.text.readers import TaleContinuations, TalePreferences, TaleStories
from bloomery.text.tales import Tales
from bloomery.train.credit import GAE, Credit, GroupRelative, LeaveOneOut
from bloomery.train.earnings import Earns, Toll
from bloomery.train.engines import BloomeryEngine, OwnEngine, RolloutEngine, VLLMEngine
from bloomery.train.rewards import Format, Likelier, Reward, TrueTale
from bloomery.train.rollouts import Rollout

TIME, NEW, SAMPLES = 256, 28, 8
PAID = ("rloo", "grpo", "ppo")
ENGINES: dict[str, RolloutEngine] = {"own": OwnEngine(), "bloomery": BloomeryEngine(), "vllm": VLLMEngine()}
STATEMENT = r"[A-Z][a-z ]+, .+ (was|stayed|had|kept|felt) .+\."  # who states nothing is never wrong, which no judge has seen


def preferences(
    *, methods: str = "rloo grpo ppo dpo ipo kto orpo simpo own_dpo own_orpo", stories: int = 8000, talks: int = 4000, pairs: int = 12_000,
    wrong: float = 0.5, base_steps: int = 500, chat_steps: int = 250, direct_steps: int = 300, direct_beta: float = 1.0,
    own_prompts: int = 600, paid_steps: int = 70, ppo_steps: int = 45, value_steps: int = 10, prompts: int = 8, toll: float = 0.02,
    rate: float = 1e-3, direct_rate: float = 3e-4, d_model: int = 64, n_layers: int = 2, judge_base_steps: int = 800,
    judge_steps: int = 450, judge_rate: float = 5e-4, judge_width: int = 128, judge_layers: int = 4, shown: int = 1200,
    shown_steps: int = 200, judge_tuning: float = 0.1, judges: int = 3, engine: str = "own", seeds: int = 3, seed: int = 0,
) -> Recipe:  # fmt: skip
    """A model learns to go on with tales from writers of whom `wrong` did not look. Of each pair of sentences the one that the tale's world
    makes true is preferred. A larger model, the judge, learns that, and then what of the tuned model's own texts to `shown` tales is preferred
    to what: the true ones to false ones, and those to what says nothing. It is examined on pairs of both kinds, of worlds that none has read
    of. The tuned model is paid by what it says (the true reward is only watched), or learns from pairs directly. The table tells the truth of
    what all write.

    --methods names what is compared, of "rloo grpo ppo dpo rpo ipo kto orpo simpo" (rpo is dpo that holds the better side up); "own_dpo" and
    the like learn from pairs of the tuned model's own texts, of which the judge picks the best and the worst of eight. Those that are paid
    write `paid_steps` rounds of texts, PPO `ppo_steps`: it learns from each round twice, and to be paid for longer than it gains has a policy
    look for what its judge overrates. Before that its head for values learns, alone, in `value_steps` rounds what the tuned model's texts are
    worth: by a head that knows nothing, the first rounds are credited by chance, and a policy may go astray. `toll` is what a nat
    away from the tuned model costs. Where there are fewer --judges than --seeds, they take turns. Texts of those that are paid are written by
    `engine`: the training's own, or "bloomery" or "vllm", a server of the tuned model (`Train/policy_chat`) at --engine-url.
    """
    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: {did_you_mean(engine, list(ENGINES), 'it is none of those that there are')}")
    read, unread = (Tales(seed=seed, domain="farm", size="tiny", split=split) for split in ("train", "held_out"))
    corpus = Prepare(name="stories", source=TaleStories(tales=read, count=stories))
    talk = Prepare(name="talks", source=TaleContinuations(tales=read, first=stories, count=talks, wrong=wrong))
    ranked = Prepare(name="pairs", source=TalePreferences(tales=read, first=stories + talks, count=pairs))
    aside = Prepare(name="pairs_aside", source=TalePreferences(tales=unread, count=1000))
    asked = Prepare(name="asked", source=TaleContinuations(tales=read, first=stories + talks + pairs, count=talks))
    to_show = Prepare(name="to_show", source=TaleContinuations(tales=read, first=stories + 2 * talks + pairs, count=shown))
    prompts_aside = Prepare(name="prompts_aside", source=TaleContinuations(tales=unread, first=1000, count=1000))
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=768, sample_bytes=4 << 20)

    def tokens(of: Prepare, encoding: Encoding, name: str = "") -> Tokenize:
        return Tokenize(name=name or of.name, corpus=of, tokenizer=tokenizer, encoding=encoding)

    story_tokens = tokens(corpus, Plain())
    talk_tokens, asked_tokens, shown_tokens, prompt_tokens = (tokens(one, Chat()) for one in (talk, asked, to_show, prompts_aside))
    pair_tokens, aside_tokens = (tokens(one, Pairs(max_tokens=TIME)) for one in (ranked, aside))
    verdict_tokens = tokens(ranked, Verdicts(max_tokens=TIME), "verdicts")
    common: dict[str, Any] = {"tokenizer": tokenizer, "packing": Fit(), "max_seq_len": 256, "batch_tokens": 2048, "seed": seed}

    def tuned(who: str, steps: int, width: int, layers: int) -> Train:
        """A model that has read tales and then learnt from the writers."""
        model = LlamaConfig(
            vocab_size=768, d_model=width, n_layers=layers, n_heads=4, d_ff=round(2.75 * width), max_seq_len=2 * TIME,
            init=WiredInit(embedding=0.4),
        )  # fmt: skip
        base = Train(
            name=f"{who}_base", init=Scratch(model=model), sources=(Share(tokens=story_tokens),), steps=steps,
            optimizer=tale_optimizer(3e-3, 1e-2), **common,
        )  # fmt: skip
        return Train(
            name=f"{who}_chat", init=Continue(base=base), sources=(Share(tokens=talk_tokens),), steps=chat_steps,
            optimizer=tale_optimizer(2e-3, 5e-3), **common,
        )  # fmt: skip

    chat, learned = tuned("policy", base_steps, d_model, n_layers), tuned("judge", judge_base_steps, judge_width, judge_layers)
    of_completions: dict[str, Any] = {"tokenizer": tokenizer, "packing": Fit(), "batch_tokens": 16 * TIME, "schedule": WarmupCosine()}

    def own_pairs(name: str, prompts: Tokenize, rewards: tuple[Reward, ...], count: int, number: int = 0) -> Tokenize:
        """Pairs of what the tuned model writes itself: what rewards say is the best of a few texts, and the worst."""
        own = OwnPairs(
            name=name, policy=chat, prompts=prompts, rewards=rewards, count=count, samples=SAMPLES, max_seq_len=TIME, max_new_tokens=NEW,
            seed=seed + number,
        )  # fmt: skip
        return tokens(Prepare(name=name, source=LeftBy(stage=own), filters=()), Pairs(max_tokens=TIME))

    known = TrueTale(), Format(pattern=STATEMENT)  # to people who have read the tale
    shown_pairs, shown_aside = own_pairs("shown", shown_tokens, known, shown), own_pairs("shown_aside", prompt_tokens, known, 600)

    def judge(number: int) -> Train:
        """From given pairs, and on from those and the tuned model's own.

        The sides of given pairs are sentences of one kind about one thing, so that they leave open what a kind is worth beside another, and
        say nothing of what is of no kind at all. Policies choose between those. What they write is compared across kinds, and the better sides
        are held up, so that what is true is worth the same whatever it is about.
        """

        def stage(name: str, base: Train, sources: tuple[Tokenize, ...], steps: int, tuning: float) -> Train:
            return Train(
                name=f"{name}_{number}", init=Continue(base=base), sources=tuple(Share(tokens=one) for one in sources), task=Compared(),
                objective=DPO(reference=learned, beta=1.0, tuning=tuning), optimizer=tale_optimizer(judge_rate, 2.5 * judge_rate), steps=steps,
                max_seq_len=2 * TIME, seed=seed + number, **of_completions | {"schedule": WarmupCosine(final=0.0)},
            )  # fmt: skip

        first = stage("judge", learned, (pair_tokens,), judge_steps, 0.0)
        return stage("judge_on", first, (pair_tokens, shown_pairs), shown_steps, judge_tuning)

    def told_by(number: int, weight: float = 0.2) -> Likelier:
        """How much likelier a judge has come to find a text: its reward, of which no more is to be had once it says good."""
        return Likelier(name="judge", by=judge(number), before=learned, shape="log_sigmoid", weight=weight)

    def paid_for(number: int) -> tuple[Reward, ...]:
        """What texts earn, by one of the judges."""
        return told_by(number % judges), Format(pattern=STATEMENT), TrueTale(weight=0.0)

    def paid(name: str, number: int, credit: Credit, objective: Objective, rounds: int = paid_steps, **changes: Any) -> Train:
        """The tuned model, paid by a judge."""
        init, trainable = changes.pop("init", Continue(base=chat)), changes.pop("trainable", Everything())
        earns = Earns(rewards=paid_for(number), credit=credit, reference=chat, toll=Toll(beta=changes.pop("toll", toll)))
        updates = AdamW(learning_rate=changes.pop("rate", rate), weight_decay=0.0)
        rollout = Rollout(max_new_tokens=NEW, samples=changes.pop("samples", SAMPLES), earns=earns, engine=ENGINES[engine], **changes)
        return Train(
            name=f"{name}_{number}", tokenizer=tokenizer, init=init, sources=(Share(tokens=asked_tokens),), packing=Each(), rollout=rollout,
            objective=objective, optimizer=updates, schedule=Constant(warmup=5), max_seq_len=TIME, batch_tokens=prompts * SAMPLES * TIME,
            steps=rounds * rollout.every, seed=seed + number, healing=None, trainable=trainable,
        )  # fmt: skip

    def direct(
        name: str, number: int, objective: Objective, *, rate: float = direct_rate, learnt: Tokenize = pair_tokens,
        task: RowTask = Compared(), row: int = 2 * TIME,  # noqa: B008
    ) -> Train:  # fmt: skip
        """The tuned model, after the pairs themselves."""
        return Train(
            name=f"{name}_{number}", init=Continue(base=chat), sources=(Share(tokens=learnt),), task=task, objective=objective, max_seq_len=row,
            optimizer=AdamW(learning_rate=rate, weight_decay=0.0), steps=direct_steps, seed=seed + number, **of_completions,
        )  # fmt: skip

    def trained(name: str, number: int) -> Train:
        match name:
            case "rloo":
                return paid(name, number, LeaveOneOut(), PolicyGradient(clip=None, over=OverBudget(tokens=NEW)))
            case "grpo":
                return paid(name, number, GroupRelative(), PolicyGradient(over=OverSequences()))
            case "ppo":
                with_value = HeadsOn(init=Continue(base=chat), heads=(ValueConfig(),), language_head=True)
                value = paid(
                    f"{name}_value", number, GAE(), 1.0 * ValueLoss(), value_steps, init=with_value, samples=4, rate=10 * rate,
                    trainable=Heads(),
                )  # fmt: skip
                objective, go_on = PolicyGradient() + 0.1 * ValueLoss(), Continue(base=value)
                return paid(name, number, GAE(), objective, ppo_steps, init=go_on, every=2, epochs=2, samples=4, rate=0.4 * rate)
            case "kto":
                return direct(name, number, KTO(reference=chat, beta=1.0), learnt=verdict_tokens, task=Unpaired(), row=4 * TIME)
        kind = name.removeprefix("own_")
        learnt = pair_tokens if kind == name else own_pairs(f"own_{number}", asked_tokens, paid_for(number), own_prompts, number)
        losses = {
            "dpo": DPO(reference=chat, beta=direct_beta), "rpo": DPO(reference=chat, beta=direct_beta, tuning=judge_tuning),
            "ipo": IPO(reference=chat, beta=direct_beta), "simpo": SimPO(), "orpo": ORPO(strength=1.0),
        }  # fmt: skip
        if kind not in losses:
            raise ConfigError(f"--methods {name}: {did_you_mean(name, [*PAID, 'kto', *losses], 'it is none of those that there are')}")
        faster = 3 if kind == "orpo" else 1  # which goes on tuning, and can go faster
        return direct(name, number, losses[kind], rate=faster * direct_rate, learnt=learnt)

    ways = tuple(Way(name=name, runs=tuple(trained(name, number) for number in range(seeds))) for name in methods.split())
    examined = tuple(
        Preferences(name=f"judge_{number}{of}", model=judge(number), before=learned, beta=1.0, pairs=aside, max_seq_len=2 * TIME)
        for number in range(judges) for of, aside in (("", aside_tokens), ("_shown", shown_aside))
    )  # fmt: skip
    compared = Policies(
        name="preferences", title="The true reward, paid by a judge and by pairs themselves", before=chat, ways=ways, prompts=prompt_tokens,
        rewards=(TrueTale(), told_by(0, weight=0.0)), max_seq_len=TIME, max_new_tokens=NEW,
    )  # fmt: skip
    return Recipe(name="preferences", wanted=(*examined, compared))
