"""A model that has read much goes on to new text: with and without replay, the upper layers first, re-warmed, watched on both sides."""

from __future__ import annotations

from typing import Any, NamedTuple

from bloomery.core.errors import ConfigError, did_you_mean
from bloomery.core.units import human_count
from bloomery.data import Ratio
from bloomery.models import LlamaConfig, ModelConfig
from bloomery.models.presets import preset
from bloomery.optim import AdamW, Constant, Everything, LastLayers, Muon, OptimizerConfig, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.stages.courses import Course, Courses
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.rate import ShareOf
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.text.readers import Files, Reader, TaleStories
from bloomery.text.tales import Tales
from bloomery.train import Precision


class Scale(NamedTuple):
    """A size at which the same is done: a base of `learnt` tokens gets `new` ones."""

    model: ModelConfig
    learnt: float
    new: float
    time: int
    batch_tokens: int
    optimizer: OptimizerConfig
    precision: Precision = "fp32"


SCALES = {
    "small": Scale(
        model=LlamaConfig(vocab_size=1024, d_model=96, n_layers=4, n_heads=4, d_ff=264, max_seq_len=256), learnt=1e6, new=2e5, time=256,
        batch_tokens=2048, optimizer=Muon(learning_rate=3e-3, weight_decay=0.0, others=AdamW(learning_rate=5e-3, weight_decay=0.0)),
    ),
    "full": Scale(
        model=preset("10b").replace(n_layers=32), learnt=1e12, new=2e11, time=4096, batch_tokens=1 << 22,
        optimizer=AdamW(learning_rate=2e-4, weight_decay=0.1), precision="bf16",
    ),
}  # fmt: skip


def continued(
    *, size: str = "small", old: str = "", new: str = "", replay: float = 0.25, top: float = 0.375, top_share: float = 0.2, rewarm: float = 0.5,
    seed: int = 0,
) -> Recipe:
    """Goes on from a base with new text, --replay old tokens for each new one on top, at --rewarm of the base's rate.

    The upper --top of the layers learns alone for the first --top-share of the tokens, then all do. --size small takes a fifth as many new
    tokens as the base has read, in minutes; --size full is 10 B parameters, 1 T tokens and 200 B new ones, to be planned. --old and --new are
    folders of text; without them the base reads tales of a farm, and goes on with those of a harbour.

    Source: re-warming and replay as in Ibrahim et al. (2024), arXiv 2403.08763.
    """
    if size not in SCALES:
        raise ConfigError(f"continued --size {size}: there is none of that name; {did_you_mean(size, SCALES, 'small and full are')}")
    scale = SCALES[size]
    sides = {name: _corpus(name, path, seed) for name, path in (("old", old), ("new", new))}
    tokenizer = TrainTokenizer(corpora=(sides["old"],), vocab_size=scale.model.vocab_size, sample_bytes=4 << 20)
    read, unread = (
        {name: Tokenize(name=name + suffix, corpus=one, tokenizer=tokenizer, split=split) for name, one in sides.items()}
        for suffix, split in (("", "train"), ("_unread", "held_out"))
    )  # fmt: skip

    def watch(tokens: float) -> Watch:
        return Watch(held_out=tuple(unread.values()), every=max(1, int(tokens / scale.batch_tokens) // 4))

    base = Train(
        name="base", tokenizer=tokenizer, init=Scratch(model=scale.model), sources=(Share(tokens=read["old"], group="old"),),
        max_seq_len=scale.time, batch_tokens=scale.batch_tokens, tokens=int(scale.learnt), optimizer=scale.optimizer, precision=scale.precision,
        schedule=WarmupCosine(), keeps="optimizer", watch=watch(scale.learnt), seed=seed,
    )  # fmt: skip
    upper = LastLayers(count=max(1, round(top * scale.model.n_layers)))

    def course(name: str, *, replayed: float, first: float) -> Course:
        """The upper layers for the first share of the tokens, then all of them; or all from the start."""
        sources = [Share(tokens=read["new"], group="new")]
        mixing: dict[str, Any] = {}
        if replayed:
            sources.append(Share(tokens=read["old"], group="old"))
            mixing = {"mixing": Ratio(of={"new": 1, "old": replayed})}
        tokens = scale.new * (1 + replayed)
        common = {"sources": tuple(sources), "rate": ShareOf(base=base, share=rewarm), **mixing}
        before, phases = base, list[Train]()
        if first:
            before = base.then(
                name=f"{name}_top", trainable=upper, tokens=int(first * tokens), schedule=Constant(warmup=0.1), seed=seed + 1,
                keeps="optimizer", watch=watch(first * tokens), **common,
            )  # fmt: skip
            phases.append(before)
        phases.append(before.then(
            name=f"{name}_all", trainable=Everything(), tokens=int((1 - first) * tokens), schedule=WarmupCosine(warmup=0.1), seed=seed + 2,
            watch=watch((1 - first) * tokens), **common,
        ))  # fmt: skip
        return Course(name=name, phases=tuple(phases))

    courses = (
        course("without", replayed=0.0, first=top_share), course("replay", replayed=replay, first=top_share),
        course("at_once", replayed=replay, first=0.0),
    )  # fmt: skip
    read_before, to_read = human_count(scale.learnt), human_count(scale.new)
    title = f"{human_count(scale.model.n_params)} parameters that have read {read_before} tokens get {to_read} new ones"
    compared = Courses(name="continued", title=title, base=base, courses=courses, old=unread["old"], new=unread["new"])
    return Recipe(name="continued", wanted=(compared,))


def _corpus(name: str, path: str, seed: int) -> Prepare:
    domain, count = ("farm", 10_000) if name == "old" else ("harbour", 2_500)
    source: Reader = Files(path=path) if path else TaleStories(tales=Tales(seed=seed, domain=domain, size="short"), count=count)
    return Prepare(name=name, source=source, held_out=0.05)
