"""`Regex` and `Json`: the text matches a regular expression, or is JSON that a schema allows. llguidance keeps track of what may come."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.generate.rules import Rule, Shape, Text
from bloomery.text.tokenizer import Tokenizer


class Grammar(Rule):
    """Lets only those tokens come with which the text can still be what it has to be; where it is, it may end, and where it can only be that,
    it does. A text that is cut off at its longest is only the beginning of what was wanted: leave room, or bound what is wanted.

    Needs `pip install 'bloomery[grammar]'`.
    """

    @abstractmethod
    def grammar(self) -> str:
        """As llguidance reads it."""

    def ready(self, tokenizer: Tokenizer | None) -> Shape:
        if tokenizer is None:
            raise ConfigError(f"{self.kind()} looks at what tokens spell, and there is no tokenizer; give the model's own")
        try:
            import llguidance
        except ImportError:
            raise ConfigError(f"{self.kind()} needs another package; pip install 'bloomery[grammar]'") from None
        known = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Vocabulary(tokenizer)))
        matcher = llguidance.LLMatcher(known, self.grammar(), log_level=0)
        if matcher.is_error():
            field, reason = next(iter(type(self).model_fields)), " ".join(matcher.get_error().split("\n")[0].split())
            raise self.refuse(field, f"cannot be followed: {reason}; write it otherwise")
        return Matching(matcher)


class Regex(Grammar):
    """The whole text matches a regular expression."""

    pattern: str = Field(min_length=1)
    """In the syntax of Rust's regex: no look-around and no back-references; \\d is an ASCII digit."""

    def grammar(self) -> str:
        import llguidance

        on_one_line = llguidance.regex_to_lark(self.pattern, use_ascii="d").replace("\n", "\\n")
        return llguidance.LLMatcher.grammar_from_lark(f"start: /{on_one_line}/")


class Json(Grammar):
    """The text is JSON that a schema allows. Properties come in the schema's order."""

    matching: dict[str, Any]
    """The JSON schema."""
    blanks: Literal["free", "none"] = "none"
    """Between the parts of the JSON: as the model likes, or none but one behind each ":" and ","."""

    def grammar(self) -> str:
        import llguidance

        if self.blanks == "free":
            return llguidance.LLMatcher.grammar_from_json_schema(json.dumps(self.matching))
        one = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
        return llguidance.LLMatcher.grammar_from_json_schema(json.dumps(self.matching | {"x-guidance": one}))


class Vocabulary:
    """A tokenizer as llguidance asks for it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        controls = {i: content.encode() for i, content in tokenizer.controls.items()}
        self.tokens = [controls.get(i, data) for i, data in enumerate(tokenizer.token_bytes)]
        self.special_token_ids = sorted(controls)
        self.eos_token_id, self.bos_token_id = tokenizer.end, tokenizer.begin
        self._encode = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


class Matching:
    """Where each of some texts stands in a grammar. What is known of a text is kept until its next token; what is not is read anew."""

    def __init__(self, start: Any) -> None:
        self._start = start
        self._known: dict[tuple[int, ...], Any] = {}

    def __call__(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        self._known = {new: self._behind(new) for new in {tuple(text.new) for text in texts}}
        allowed = np.stack([self._allowed(self._known[tuple(text.new)], scores.shape[-1]) for text in texts])
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)

    def _behind(self, new: tuple[int, ...]) -> Any:
        """A matcher that has read some tokens."""
        if new in self._known:
            return self._known[new]
        before = self._known.get(new[:-1])
        matcher = (self._start if before is None else before).deep_copy()
        matcher.consume_tokens(list(new if before is None else new[-1:]))
        return matcher

    @staticmethod
    def _allowed(matcher: Any, vocab_size: int) -> np.ndarray:
        found = np.frombuffer(matcher.compute_logit_bias(), np.uint8)[:vocab_size] > 0
        return np.pad(found, (0, vocab_size - len(found)))
