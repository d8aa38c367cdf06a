"""`recipe_lines`: what was advised, as a recipe to copy and run."""

from __future__ import annotations

from pathlib import Path

from bloomery.stages.advice.measure import RANK, Measured
from bloomery.stages.advice.rules import adapted, learning_rate, passes, replay_share

STEPS = 50  # at least, where the data has rows enough
ROWS = 16  # in a step, at most


def recipe_lines(m: Measured, data: Path, model: Path, old: Path | None = None) -> str:
    """The file of a recipe called `advised`, which `bloomery run` takes.

    Args:
        m: what was measured.
        data: where the rows are.
        model: the model's folder.
        old: text like that of the pre-training, to be replayed; None replays nothing.
    """
    new = m.tokens * passes(m)
    share = replay_share(m) if old else 0.0
    rows = max(1, min(ROWS, round(new * (1 + share) / m.time / STEPS)))
    steps = max(1, round(new * (1 + share) / (rows * m.time)))
    chats = m.conversations == m.rows
    packing = "Fit" if chats else "Cut"
    imports = "from bloomery.data.encodings import Chat\n" * chats + "from bloomery.nn.adapters import LoRA\n" * adapted(m)
    lora = f"adapter=LoRA(rank={RANK}, alpha={2.0 * RANK}), " if adapted(m) else ""
    encoding = ", encoding=Chat()" if chats else ""
    shares = ['Share(tokens=new, group="new")']
    mixing, replayed = "", ""
    if old is not None:
        shares.append('Share(tokens=old, group="old")')
        mixing = f'mixing=Ratio(of={{"new": 1, "old": {share:g}}}), '
        replayed = (f'    past = Prepare(name="old", source=Files(path={str(old)!r}))\n'
                    '    old = Tokenize(name="old", corpus=past, tokenizer=tokenizer)\n')  # fmt: skip
    return f'''"""What `bloomery advise` advised for {data.name} and {model.name}."""

from pathlib import Path

from bloomery.data import {packing}{", Ratio" if old else ""}
{imports}from bloomery.optim import AdamW
from bloomery.recipe import Recipe
from bloomery.stages.init import Hub
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import LoadTokenizer
from bloomery.stages.train import Share, Train
from bloomery.text.readers import Files


def advised() -> Recipe:
    """{passes(m)} times over {m.rows} rows."""
    tokenizer = LoadTokenizer(path={str(model)!r})
    rows = Prepare(name="new", source=Files(path={str(data)!r}))
    new = Tokenize(name="new", corpus=rows, tokenizer=tokenizer{encoding})
{replayed}    tuned = Train(
        name="advised", tokenizer=tokenizer, init=Hub(path=Path({str(model)!r})), {lora}
        sources=({", ".join(shares)},), {mixing}packing={packing}(), max_seq_len={m.time},
        batch_tokens={rows * m.time}, steps={steps}, optimizer=AdamW(learning_rate={learning_rate(m):.3g}),
    )
    return Recipe(name="advised", wanted=(tuned,))
'''
