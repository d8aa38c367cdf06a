"""What follows from what was measured: a rule is a function from `Measured` to a line of advice, or none; each says its number and its source.

    rule             number that it looks at                       source
    kind             conversations, chat template                  –
    labels           different answers against rows                –
    adapter          bits to learn against bits an adapter holds   arXiv 2404.05405, 2405.09673
    rate             rate of the pre-training                      arXiv 2001.08361 (D.6), 2405.09673
    replay           bits per byte of the model as it is           arXiv 2403.08763; docs/log.md
    epochs           tokens to be learnt                           arXiv 2305.16264
    capacity         bits to learn against bits a model holds      arXiv 2404.05405
    sizes            tokens seen against parameters                arXiv 2404.10102
    length           lengths of rows                               –
    duplicates       share of repeated rows                        arXiv 2107.06499
    vocabulary       characters per token                          –
    memory           the plan of a row                             –
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bloomery.core.units import human_bytes, human_count
from bloomery.planning.sizing import BITS_PER_PARAM, best_tokens
from bloomery.stages.advice.measure import RANK, Measured

FULL_SHARE = 0.1  # of the rate of pre-training, when all weights are tuned
ADAPTER_TIMES = 10.0  # as high, for an adapter
NEAR = 1.2  # bits per byte up to which a text is like what the model knows
LABELS = 50  # different answers at most that can be classes


@dataclass(frozen=True)
class Advice:
    """A line: what it is about, what to do, the measured number, and where the rule is from (empty where it is arithmetic)."""

    about: str
    advice: str
    evidence: str
    source: str = ""


Rule = Callable[[Measured], Advice | None]


def adapted(m: Measured) -> bool:
    """Whether an adapter has room for what is to be learnt."""
    return m.bits <= BITS_PER_PARAM * m.adapter_params


def pretraining_rate(m: Measured) -> float:
    """The highest rate of the pre-training, or what is usual for a model of its size:  0.003239 − 0.0001395 · ln N, at least 1e-4."""
    return m.rate or max(1e-4, 0.003239 - 0.0001395 * math.log(m.params))


def rate_share(m: Measured) -> float:
    """Of the rate of the pre-training."""
    return FULL_SHARE * (ADAPTER_TIMES if adapted(m) else 1.0)


def learning_rate(m: Measured) -> float:
    """For AdamW."""
    return pretraining_rate(m) * rate_share(m)


def replay_share(m: Measured) -> float:
    """Old tokens for each new one: more the further the data is from what the model knows."""
    return 0.1 if m.bits_per_byte <= NEAR else 0.2


def passes(m: Measured) -> int:
    """How often to read it: at most four times, which count nearly like new data, and less often the more there is."""
    return 4 if m.learnt < 1e6 else 3 if m.learnt < 1e7 else 2 if m.learnt < 1e8 else 1


def kind(m: Measured) -> Advice:
    """Chat or base."""
    share = m.conversations / m.rows
    turns = f"{m.turns:.1f} answers each" if share else "no conversations"
    if share < 1:
        return Advice("kind", "go on with the text as it is: Plain(), no chat template", f"{share:.0%} of {m.rows} rows are conversations")
    have = "the model brings a chat template: tune that model" if m.template else "the model brings no chat template: take the base, and ours"
    form = "multi-turn" if m.turns > 1 else "one-turn"
    evidence = f"{m.rows} conversations, {turns}; {m.learnt / m.tokens:.0%} of the tokens are learnt"
    return Advice("kind", f"{form} chat, Chat(); {have}", evidence)


def labels(m: Measured) -> Advice | None:
    """Answers that are classes."""
    if not 0 < m.answers <= min(LABELS, m.rows / 20):
        return None
    return Advice("labels", "the answers are classes: a head (Classes()) is made for them", f"{m.answers} answers in {m.rows} rows")


def adapter(m: Measured) -> Advice:
    """Adapter or all weights."""
    holds = BITS_PER_PARAM * m.adapter_params
    evidence = (f"the model needs {human_count(m.bits)} bits for what is to be learnt; a LoRA of rank {RANK} ({human_count(m.adapter_params)} "
                f"parameters) holds {human_count(holds)}")  # fmt: skip
    advice = f"LoRA(rank={RANK}): it has room, and forgets less" if adapted(m) else "all weights: an adapter has no room for it"
    return Advice("adapter", advice, evidence, "arXiv 2404.05405 (2 bits per parameter), 2405.09673 (LoRA learns less and forgets less)")


def rate(m: Measured) -> Advice:
    """The learning rate."""
    base, share = pretraining_rate(m), rate_share(m)
    known = "was pre-trained at" if m.rate else f"would usually have been pre-trained, at {human_count(m.params)} parameters, at"
    return Advice(
        "rate", f"AdamW at {learning_rate(m):.2g}, {share:g} of the rate of pre-training" + (", ten times that of all weights" * adapted(m)),
        f"it {known} {base:.2g}", "arXiv 2403.08763 (lower than pre-training's), 2405.09673 (ten times for LoRA), 2001.08361 (D.6)",
    )  # fmt: skip


def replay(m: Measured) -> Advice:
    """Old text beside the new."""
    share = replay_share(m)
    return Advice(
        "replay", f"one old token to {1 / share:.0f} new ones: {human_count(share * m.tokens * passes(m))} of them",
        f"{m.bits_per_byte:.2f} bits per byte as it is, {'near' if m.bits_per_byte <= NEAR else 'far from'} what it knows (bound {NEAR})",
        "arXiv 2403.08763; docs/log.md, what a fine-tune forgets",
    )  # fmt: skip


def epochs(m: Measured) -> Advice:
    """Passes over the data."""
    advice = f"{passes(m)} pass{'es' if passes(m) > 1 else ''}; set 5 % aside, and stop when it gets worse there"
    source = "arXiv 2305.16264 (up to four passes count nearly as new data)"
    return Advice("epochs", advice, f"{human_count(m.learnt)} tokens to be learnt", source)


def capacity(m: Measured) -> Advice:
    """Whether the model has room for what is in the data."""
    holds = BITS_PER_PARAM * m.params
    enough = "suffices" if m.bits <= holds / 10 else "is tight: expect it to forget" if m.bits <= holds else "does not suffice: grow it"
    return Advice("capacity", f"capacity {enough}", f"{human_count(m.bits)} bits to learn at most, room for {human_count(holds)} in all "
                  f"{human_count(m.params)} parameters ({m.bits / holds:.2g})", "arXiv 2404.05405")  # fmt: skip


def sizes(m: Measured) -> Advice | None:
    """Tokens that the model has seen, against the best."""
    if m.seen is None:
        return None
    best = best_tokens(m.params)
    advice = "it has seen less than would be best for its size: more pre-training would help as well" if m.seen < best else (
        "it has seen more than would be best for its size"
    )
    return Advice("sizes", advice, f"{human_count(m.seen)} tokens seen, {human_count(best)} are best for {human_count(m.params)} parameters",
                  "arXiv 2203.15556, 2404.10102")  # fmt: skip


def length(m: Measured) -> Advice:
    """Tokens in a row."""
    cut = "none is" if not m.cut else f"{m.cut:.1%} are"
    evidence = f"a row has {m.median} tokens in the median, {m.p99} at 99 %, {m.longest} at most; the model reads {m.max_seq_len}, {cut} cut"
    return Advice("length", f"max_seq_len={m.time}", evidence)


def duplicates(m: Measured) -> Advice | None:
    """Repeated rows."""
    if m.duplicates < 0.001:
        return None
    advice = "leave ExactDuplicates() among the filters, and add MinHash()"
    return Advice("duplicates", advice, f"{m.duplicates:.1%} of the rows repeat another", "arXiv 2107.06499")


def vocabulary(m: Measured) -> Advice:
    """Whether the vocabulary is for such texts."""
    fits = m.characters_per_token >= 2.5 and m.unknown < 0.05
    advice = "the vocabulary fits" if fits else "the vocabulary is made for other texts: rows are long for what they say"
    each, parts = f"{m.characters_per_token:.2f} characters per token (bound 2.5)", f"{m.unknown:.1%} of the tokens are parts of one (5 %)"
    return Advice("vocabulary", advice, f"{each}; {parts}")


def memory(m: Measured) -> Advice:
    """What a step takes."""
    needs = m.bytes_adapter if adapted(m) else m.bytes_full
    advice = "it fits this machine" if needs <= m.memory else "it does not fit this machine: see bloomery plan for a layout"
    return Advice("memory", advice, f"{human_bytes(needs)} with one row of {m.time} at a time ({human_bytes(m.bytes_full)} for all weights, "
                  f"{human_bytes(m.bytes_adapter)} for the adapter), of {human_bytes(m.memory)}")  # fmt: skip


RULES: tuple[Rule, ...] = (kind, labels, adapter, rate, replay, epochs, capacity, sizes, length, duplicates, vocabulary, memory)
"""In the order in which they are told."""


def advise(m: Measured) -> list[Advice]:
    """What follows."""
    return [line for rule in RULES if (line := rule(m)) is not None]
