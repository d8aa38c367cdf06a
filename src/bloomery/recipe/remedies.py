"""Ways of tuning that do not forget, set side by side on one base and new data: what the verb `compare-remedies` runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bloomery.data import Fit, Ratio
from bloomery.data.encodings import Chat
from bloomery.models import LlamaConfig
from bloomery.nn import WiredInit
from bloomery.nn.adapters import LoRA
from bloomery.objectives import EWC, L2SP, CausalLM, Distil
from bloomery.optim import LastLayers
from bloomery.recipe.graph import Recipe
from bloomery.recipe.tales import tale_optimizer
from bloomery.stages.fisher import Fisher
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.remedies import Remedies, Remedy
from bloomery.stages.soup import Interpolate
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Suite, Train, Watch
from bloomery.stages.trained import Trained
from bloomery.text.readers import TaleConversations, TaleStories
from bloomery.text.tales import Tales

VOCABULARY, TIME, PER_TALE = 1280, 256, 6
Made = Callable[[str, int], Trained]
"""(its name, the seed) → what a remedy leaves."""


def remedies(
    *, seeds: int = 3, base_steps: int = 300, talk_steps: int = 700, steps: int = 150, ewc: float = 300.0, l2_sp: float = 0.1, kl: float = 1.0,
    replay: float = 0.2, alpha: float = 0.5, rank: int = 16, questions: int = 600, seed: int = 0,
) -> Recipe:
    """A small model learns to answer questions about a farm, then about a harbour: plainly, and with each remedy against forgetting the farm.

    The base reads tales of the farm and some of both places, and learns to answer about the farm. Each remedy tunes it on as many tokens of
    the harbour; `replay` old ones for each new one come on top of these.
    """
    farm, harbour, both = (Tales(seed=seed, domain=domain, size="tiny") for domain in ("farm", "harbour", "both"))
    general = Prepare(name="general", source=TaleStories(tales=both, count=8000))
    stories = Prepare(name="farm_stories", source=TaleStories(tales=farm, count=8000))
    tokenizer = TrainTokenizer(corpora=(general,), vocab_size=VOCABULARY, sample_bytes=4 << 20)

    def talks(book: Tales, count: int, first: int = 0) -> Tokenize:
        kind = "exam" if book.split == "held_out" else "talks"
        corpus = Prepare(name=f"{book.domain}_{kind}", source=TaleConversations(tales=book, first=first, count=count, questions=PER_TALE))
        return Tokenize(name=corpus.name, corpus=corpus, tokenizer=tokenizer, encoding=Chat())

    old, new = talks(farm, 12_000, first=20_000), talks(harbour, 6_000, first=20_000)
    old_exam, new_exam = (talks(book.replace(split="held_out"), questions // PER_TALE) for book in (farm, harbour))
    read, mixed = (Tokenize(name=one.name, corpus=one, tokenizer=tokenizer) for one in (stories, general))

    model = LlamaConfig(
        vocab_size=VOCABULARY, d_model=96, n_layers=3, n_heads=4, d_ff=264, max_seq_len=TIME, init=WiredInit(embedding=0.4),
    )  # fmt: skip
    common: dict[str, Any] = {"tokenizer": tokenizer, "packing": Fit(), "max_seq_len": TIME}
    reader = Train(
        name="reader", init=Scratch(model=model), sources=(Share(tokens=read, proportion=4), Share(tokens=mixed)), steps=base_steps, seed=seed,
        batch_tokens=2048, optimizer=tale_optimizer(3e-3, 1e-2), **common,
    )  # fmt: skip
    base = Train(
        name="base", init=Continue(base=reader), sources=(Share(tokens=old),), steps=talk_steps, seed=seed,
        batch_tokens=1024, optimizer=tale_optimizer(2e-3, 5e-3), **common,
    )  # fmt: skip
    fisher = Fisher(name="farm", model=base, tokens=old, max_seq_len=TIME, seed=seed)
    suites = (Suite(tokens=old_exam, side="old"), Suite(tokens=new_exam, side="new"))

    def tuned(name: str, number: int, **changes: Any) -> Train:
        fields: dict[str, Any] = {
            "name": f"{name}_{number}", "init": Continue(base=base), "sources": (Share(tokens=new),), "steps": steps, "seed": seed + number,
            "batch_tokens": 1024, "optimizer": tale_optimizer(3e-3, 7.5e-3), "watch": Watch(suites=suites, every=max(1, steps // 4)),
        }  # fmt: skip
        return Train(**common | fields | changes)

    replayed = {
        "sources": (Share(tokens=new, group="new"), Share(tokens=old, group="old")),
        "mixing": Ratio(of={"new": 1, "old": replay}), "steps": round(steps * (1 + replay)),
    }  # fmt: skip
    ways: dict[str, Made] = {
        "plain": lambda name, i: tuned(name, i),
        "replay": lambda name, i: tuned(name, i, **replayed),
        "ewc": lambda name, i: tuned(name, i, objective=CausalLM() + EWC(fisher=fisher, strength=ewc)),
        "l2_sp": lambda name, i: tuned(name, i, objective=CausalLM() + L2SP(anchor=base, strength=l2_sp)),
        "kl": lambda name, i: tuned(name, i, objective=CausalLM() + kl * Distil(teacher=base, places="all")),
        "lora": lambda name, i: tuned(name, i, adapter=LoRA(rank=rank, alpha=2.0 * rank)),
        "top_layer": lambda name, i: tuned(name, i, trainable=LastLayers(count=1)),
        "wise_ft": lambda name, i: Interpolate(name=f"{name}_{i}", base=base, tuned=tuned("plain", i), alpha=alpha),
    }
    compared = Remedies(
        name="remedies", title="Farm first, then the harbour: what each remedy learns, and what it keeps", base=base,
        old=old_exam, new=new_exam,
        remedies=tuple(Remedy(name=name, runs=tuple(make(name, i) for i in range(seeds))) for name, make in ways.items()),
        max_seq_len=TIME, questions=questions,
    )  # fmt: skip
    return Recipe(name="remedies", wanted=(compared,))
