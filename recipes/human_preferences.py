"""What people prefer, from rows of theirs: a small model reads text, then conversations, and a head learns which of two answers was chosen."""

from __future__ import annotations

from typing import Any

from bloomery.data import Compared, Fit
from bloomery.data.encodings import Chat, EveryTurn
from bloomery.data.pairs import Pairs
from bloomery.models import LlamaConfig, RegressionConfig
from bloomery.nn import LastPoolingConfig
from bloomery.objectives import BradleyTerry
from bloomery.optim import AdamW, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_optimizer
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.preferences import Preferences
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.text.filters import ExactDuplicates, Normalise
from bloomery.text.readers import Files, Rows


def human_preferences(
    *, data: str, text: str, aside: float = 0.3, base_steps: int = 60, chat_steps: int = 20, steps: int = 50, rate: float = 5e-4,
    centring: float = 0.01, vocab_size: int = 1024, d_model: int = 64, n_layers: int = 2, max_tokens: int = 512, seeds: int = 1, seed: int = 0,
) -> Recipe:
    """Learns from --data, rows with chosen and rejected answers (HH-RLHF, UltraFeedback), after --text and the conversations themselves.

    A share --aside of the pairs, by a hash of their ids, is what it is measured on; no stage learns from them, the tokenizer neither. The
    defaults take half a minute of one core, and what comes of them is hardly more than that short answers are preferred: see docs/log.md.
    """
    read = Prepare(name="text", source=Files(path=text), filters=(Normalise(), ExactDuplicates()))
    people = Prepare(name="people", source=Files(path=data, rows=Rows(on_bad_row="count")), filters=(ExactDuplicates(),), held_out=aside)
    tokenizer = TrainTokenizer(corpora=(read, people), vocab_size=vocab_size, sample_bytes=8 << 20)
    words = Tokenize(name="text", corpus=read, tokenizer=tokenizer)
    talks = Tokenize(name="talks", corpus=people, tokenizer=tokenizer, encoding=Chat(learn=EveryTurn()))
    pairs = Pairs(max_tokens=max_tokens)
    learnt = Tokenize(name="learnt", corpus=people, tokenizer=tokenizer, encoding=pairs)
    test = Tokenize(name="test", corpus=people, tokenizer=tokenizer, encoding=pairs, split="held_out")
    row = 2 * max_tokens
    model = LlamaConfig(vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, n_heads=4, d_ff=352 * d_model // 128, max_seq_len=row)
    common: dict[str, Any] = {"tokenizer": tokenizer, "seed": seed}
    base = Train(
        name="base", init=Scratch(model=model), sources=(Share(tokens=words),), max_seq_len=256, batch_tokens=2048, steps=base_steps,
        optimizer=tale_optimizer(3e-3, 5e-3), **common,
    )  # fmt: skip
    chat = Train(
        name="chat", init=Continue(base=base), sources=(Share(tokens=talks),), packing=Fit(), max_seq_len=row, batch_tokens=2 * row,
        steps=chat_steps, optimizer=tale_optimizer(1e-3, 2e-3), schedule=WarmupCosine(), **common,
    )  # fmt: skip

    def examined(number: int) -> Preferences:
        head = RegressionConfig(name="reward", pooling=LastPoolingConfig())
        reward = Train(
            name=f"reward_{number}", tokenizer=tokenizer, init=HeadsOn(init=Continue(base=chat), heads=(head,)),
            sources=(Share(tokens=learnt),), packing=Fit(), task=Compared(), objective=BradleyTerry(centring=centring),
            optimizer=AdamW(learning_rate=rate, weight_decay=0.0), schedule=WarmupCosine(), max_seq_len=row, batch_tokens=4 * row, steps=steps,
            seed=seed + number,
        )  # fmt: skip
        return Preferences(name=reward.name, model=reward, head="reward", pairs=test, max_seq_len=row)

    return Recipe(name="human_preferences", wanted=tuple(map(examined, range(seeds))))
