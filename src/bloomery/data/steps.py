"""`Steps`: answers that come in steps, each of which is right or not, for heads that judge answers step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Integer
from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.data.columns import text_in, value_in
from bloomery.data.labelled import Labelled, LabelledRow
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer


class Steps(Labelled):
    """A prompt and an answer in steps, as a conversation has them; at the token with which a step ends stands whether it is right, 1 or 0.
    Steps of which nothing is said have no label. What is too long loses the beginning of its prompt, then its last steps.

    Source: Lightman et al. (2023), arXiv 2305.20050, section 2.6; Uesato et al. (2022), arXiv 2211.14275.
    """

    classes: ClassVar[tuple[str, ...]] = ("wrong", "right")
    """What labels mean."""

    prompt: str = "prompt"
    """The column of the prompt."""
    steps: str = "steps"
    """The column of the steps, a list of texts."""
    verdicts: str = "verdicts"
    """The column of what is said of each: above 0 (or true) it is right."""
    separator: str = Field(default="\n", min_length=1)
    """Between steps."""
    template: ChatTemplate = ChatTemplate()
    """How messages are laid out."""

    @property
    def read(self) -> tuple[str, ...]:
        return (self.prompt, self.steps)

    def row(self, row: Mapping[str, Any], tokenizer: Tokenizer) -> LabelledRow:
        steps, verdicts = (list(value_in(row, column) or ()) for column in (self.steps, self.verdicts))
        if not steps or len(steps) != len(verdicts):
            raise DataError(f"{len(steps)} {self.steps} have {len(verdicts)} {self.verdicts}; give each step one, null where nothing is said")
        if any(not str(step).strip() or self.separator in str(step) for step in steps):
            raise DataError(f"a step of {self.steps} is empty, or holds the separator {self.separator!r}; take another separator, or part it")
        text = self.separator.join(map(str, steps))
        messages = [{"role": "user", "content": text_in(row, self.prompt)}, {"role": "assistant", "content": text}]
        ids, mask = self.template.render(messages, tokenizer)
        begins, over = mask.index(True), max(0, len(ids) - self.max_tokens)
        front = min(over, begins - 2)  # the first token stays, and the one before the answer, which opens it
        kept = [*ids[:1], *ids[1 + front :]][: self.max_tokens]
        ends = (begins - front + place for place in step_ends(text, self.separator, tokenizer.byte_lengths[ids[begins:]]))
        labels = {at: float(verdict > 0) for at, verdict in zip(ends, verdicts, strict=True) if verdict is not None and at < len(kept)}
        return LabelledRow(kept, labels, len(ids) - len(kept))

    def told(self, label: float) -> str:
        return self.classes[int(label)]


def step_ends(text: str, separator: str, bytes_of: Integer[np.ndarray, " tokens"] | Sequence[int]) -> list[int]:
    """The number of the token with which each step of a text ends; blank steps are none.

    Args:
        text: steps with separators between them.
        separator: is part of no step.
        bytes_of: of each token of the text, the bytes that it stands for.
    """
    done, at, found = np.cumsum(bytes_of), 0, list[int]()
    for step in text.split(separator):
        at += len(step.encode("utf-8", "replace"))
        if step.strip():
            found.append(min(int(np.searchsorted(done, at)), len(done) - 1))
        at += len(separator.encode())
    return found
