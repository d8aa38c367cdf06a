"""Whether a model can be taught a task: what a training refuses when its config is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from bloomery.core.errors import ConfigError
from bloomery.data import Compared, Ordered, RowTask, Unpaired
from bloomery.data.encodings import Encoding
from bloomery.data.pairs import OfPreferences, Pairs, Rankings, Verdicts
from bloomery.data.tasks import OfCompletions, room
from bloomery.models import ModelConfig
from bloomery.stages.tokenizer import LoadTokenizer, TrainTokenizer


def check_task(task: RowTask, model: ModelConfig, tokenizer: TrainTokenizer | LoadTokenizer, max_seq_len: int) -> None:
    """Raises `ConfigError` where a model has no room for a tokenizer's ids and a task's, or reads otherwise than the task asks.

    Args:
        task: what is to be learnt from rows.
        model: what is to learn it.
        tokenizer: of the rows.
        max_seq_len: tokens in a row.
    """
    what, kind, ids = f"Train.task={task.kind()}", model.kind(), tokenizer.vocab_size
    if model.vocab_size < ids:
        raise ConfigError(f"Train.init: the model's vocab_size={model.vocab_size} is less than the tokenizer's vocab_size={ids}; give the "
                          "model that many")  # fmt: skip
    more = room(task.roles(max_seq_len), tokenizer.roles)
    if model.vocab_size < ids + more:
        raise ConfigError(f"{what} needs {more} ids above the tokenizer's vocab_size={ids}, for which Train.init: the model's vocab_size="
                          f"{model.vocab_size} has no room; give the model {ids + more}")  # fmt: skip
    if task.gives_passage != model.reads_passage:
        rule, remedy = ("gives a passage, which", "an encoder–decoder") if task.gives_passage else (
            "gives no passage, without which", "SpanCorruption() or FromPassage(), or a model that reads no passage")  # fmt: skip
        raise ConfigError(f"{what} {rule} Train.init's {kind} cannot read; take {remedy}")
    if task.both_ways and model.reads_forward:
        raise ConfigError(f"{what} has tokens told from what comes after them, and Train.init's {kind} only sees what comes before; take an "
                          "encoder, or NextToken()")  # fmt: skip
    if not task.both_ways and not model.reads_forward:
        raise ConfigError(f"{what} has tokens told from what comes before them, and Train.init's {kind} sees what comes after; take "
                          "MaskedTokens(), or a decoder")  # fmt: skip
    if task.sees_prefix and not model.reads_prefix:
        raise ConfigError(f"{what} has a beginning that is read both ways, and a mixer of Train.init's {kind} only reads forward; take "
                          "NextToken(), or attention")  # fmt: skip
    if (longest := task.longest(max_seq_len)) > model.max_seq_len:
        raise ConfigError(f"Train.max_seq_len={max_seq_len} gives {task.kind()} rows of {longest} tokens, more than the model's max_seq_len="
                          f"{model.max_seq_len}; lower it")  # fmt: skip


OF_PREFERENCES: Mapping[type[RowTask], type[OfPreferences]] = MappingProxyType({Compared: Pairs, Ordered: Rankings, Unpaired: Verdicts})


def check_completions(task: RowTask, encodings: Sequence[Encoding]) -> None:
    """Raises `ConfigError` where completions meet a task that does not keep them apart, or the task rows that are none of its own.

    Args:
        task: what is to be learnt from rows.
        encodings: of the corpora.
    """
    wanted = OF_PREFERENCES.get(type(task))
    for encoding in encodings:
        if wanted is not None and not isinstance(encoding, wanted):
            raise ConfigError(f"Train.task={task.kind()}() is for rows of {wanted.kind()}(), and {encoding.kind()} makes none; take "
                              f"Tokenize(encoding={wanted.kind()}())")  # fmt: skip
        if isinstance(encoding, OfPreferences) and not isinstance(task, OfCompletions):
            fits = next(kind for kind, known in OF_PREFERENCES.items() if isinstance(encoding, known))
            raise ConfigError(f"Train.task={task.kind()} learns from all completions of {encoding.kind()}() alike; take {fits.kind()}() with a "
                              "loss for it, or Tokenize(encoding=Chat()), which takes the best one")  # fmt: skip
