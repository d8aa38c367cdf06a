"""Questions with several choices: a small model reads text, then a head on it learns to choose, in three ways, over several seeds."""

from __future__ import annotations

from typing import Any

from bloomery.data import Fit, TellLabels
from bloomery.data.folds import Fold
from bloomery.data.labelled import Choices
from bloomery.models import LlamaConfig, MultipleChoiceConfig
from bloomery.nn import LastPoolingConfig
from bloomery.objectives import HeadCrossEntropy
from bloomery.optim import AdamW, Constant, CosineRates, Embeddings, Everything, Heads, Muon, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.stages.ensemble import Ensemble
from bloomery.stages.examinations import Examinations, Variant
from bloomery.stages.examine import Examine
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.text.filters import ExactDuplicates, ExtractHtml, MinHash, Normalise
from bloomery.text.readers import Files, Rows

LETTERS = ("A", "B", "C", "D", "E")
NEAR = MinHash(shingle_words=3, bands=28, rows=4, min_jaccard=0.55)  # for texts of a few sentences


def multiple_choice(
    *, data: str, text: str, seeds: int = 5, folds: int = 5, base_steps: int = 1000, head_steps: int = 40, steps: int = 400,
    rate: float = 1e-3, bottom: float = 0.1, vocab_size: int = 4096, d_model: int = 128,
    n_layers: int = 4, max_tokens: int = 64, seed: int = 0,
) -> Recipe:
    """Learns to choose on --data, rows with the columns prompt, A to E and answer, from a model that has read --text.

    One part in --folds of the questions, by their content and after near duplicates are gone, is what all are measured on.
    """
    read = Prepare(name="text", source=Files(path=text), filters=(ExtractHtml(), Normalise(), ExactDuplicates()))
    asked = Prepare(name="questions", source=Files(path=data, rows=Rows(form="columns")), filters=(ExactDuplicates(), NEAR))
    tokenizer = TrainTokenizer(corpora=(read,), vocab_size=vocab_size, sample_bytes=8 << 20)
    words = Tokenize(name="text", corpus=read, tokenizer=tokenizer)
    test_fold = Fold(number=0, of=folds)

    def questions(name: str, *parts: Fold) -> Tokenize:
        encoding = Choices(head="answer", choices=LETTERS, count=len(LETTERS), max_tokens=max_tokens, folds=parts)
        return Tokenize(name=name, corpus=asked, tokenizer=tokenizer, encoding=encoding)

    learnt, test = questions("learnt", test_fold.replace(side="others")), questions("test", test_fold)

    model = LlamaConfig(
        vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, n_heads=4, d_ff=352 * d_model // 128, max_seq_len=max(256, max_tokens),
    )  # fmt: skip
    base = Train(
        name="base", tokenizer=tokenizer, init=Scratch(model=model), sources=(Share(tokens=words),), max_seq_len=256, batch_tokens=2048,
        steps=base_steps, optimizer=Muon(learning_rate=3e-3, weight_decay=0.0, others=AdamW(learning_rate=5e-3, weight_decay=0.0)), seed=seed,
    )  # fmt: skip
    head = MultipleChoiceConfig(name="answer", n_choices=len(LETTERS), pooling=LastPoolingConfig())
    row = len(LETTERS) * max_tokens

    def first(number: int) -> Train:
        """The head alone, on the states of the base."""
        return Train(
            name=f"head_{number}", tokenizer=tokenizer, init=HeadsOn(init=Continue(base=base), heads=(head,)), sources=(Share(tokens=learnt),),
            packing=Fit(), task=TellLabels(classes=("answer",)), objective=HeadCrossEntropy(head="answer"), trainable=Heads(),
            optimizer=AdamW(learning_rate=rate, weight_decay=0.0), schedule=Constant(warmup=5), max_seq_len=row, batch_tokens=8 * row,
            steps=head_steps, seed=seed + number, watch=Watch(held_out=(test,)),
        )  # fmt: skip

    ways: dict[str, dict[str, Any]] = {
        "plain": {"trainable": Everything()}, "frozen_embeddings": {"trainable": Everything() - Embeddings()},
        "cosine_rates": {
            "trainable": Everything(), "optimizer": AdamW(learning_rate=rate, weight_decay=0.0, layer_rates=CosineRates(bottom=bottom)),
        },
    }  # fmt: skip

    def tuned(name: str, number: int) -> Train:
        """The rest, too."""
        return first(number).then(
            name=f"{name}_{number}", steps=steps, schedule=WarmupCosine(), watch=Watch(held_out=(test,), every=max(1, steps // 4)),
            **ways[name],
        )  # fmt: skip

    def way(name: str) -> Variant:
        runs = tuple(tuned(name, number) for number in range(seeds))
        together = Ensemble(name=name, members=runs)
        return Variant(
            name=name, runs=tuple(Examine(name=run.name, model=run, rows=test) for run in runs),
            together=Examine(name=f"{name}_together", model=together, rows=test),
        )  # fmt: skip

    title = f"Questions with {len(LETTERS)} choices: the head first, then plainly, with frozen embeddings, or with rates by depth"
    return Recipe(name="multiple_choice", wanted=(Examinations(name="multiple_choice", title=title, rows=test, ways=tuple(map(way, ways))),))
