"""`Controls`: how a text is to be written, by the names that clients know, and the `Decoding` that they come to.

What a request says stands; what cannot be together is refused by the name of a field, and with what would do instead.

Source: OpenAI's API reference, "Create chat completion" and "Create completion", for penalties and `logit_bias`; vLLM for `top_k`, `min_p`,
`use_beam_search` and the `guided_…`; transformers for `typical_p`, `do_sample`, `num_beams` and what goes with it, `penalty_alpha` and
`dola_layers`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bloomery.core.errors import DataError
from bloomery.generate import (
    Beam,
    Contrastive,
    Decoding,
    DoLa,
    Frequency,
    Greedy,
    Json,
    LogitBias,
    NoRepeatedSentence,
    NoRepeatNGram,
    OneOf,
    Presence,
    Random,
    Regex,
    Repetition,
    Rule,
    Sampler,
    Search,
)

MOST_CHOICES = 16
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False)]
OF_BEAMS = ("length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty")
OF_DRAWS = ("temperature", "top_p", "top_k", "min_p", "typical_p")


def _listed(value: Any) -> Any:
    """One string, or several."""
    return [] if value is None else [value] if isinstance(value, str) else value


class Controls(BaseModel):
    """How texts are to be written."""

    model_config = ConfigDict(extra="forbid")
    n: Whole = Field(default=1, ge=1, le=MOST_CHOICES)
    temperature: Number = Field(default=1.0, ge=0, le=100)
    top_p: Number = Field(default=1.0, gt=0, le=1)
    top_k: Whole | None = Field(default=None, ge=-1)
    min_p: Number = Field(default=0.0, ge=0, lt=1)
    typical_p: Number = Field(default=1.0, gt=0, le=1)
    do_sample: bool | None = None
    num_beams: Whole | None = Field(default=None, ge=1)
    use_beam_search: bool | None = None
    length_penalty: Number = Field(default=1.0, ge=-100, le=100)
    early_stopping: bool | Literal["never"] = False
    num_beam_groups: Whole = Field(default=1, ge=1)
    diversity_penalty: Number = Field(default=0.0, ge=0, le=100)
    penalty_alpha: Number = Field(default=0.0, ge=0, le=1)
    dola_layers: Literal["low", "high"] | Annotated[list[Whole], Field(min_length=1, max_length=256)] | None = None
    dola_relative_top: Number = Field(default=0.1, gt=0, le=1)
    presence_penalty: Number = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: Number = Field(default=0.0, ge=-2, le=2)
    repetition_penalty: Number = Field(default=1.0, gt=0, le=10)
    no_repeat_ngram_size: Whole = Field(default=0, ge=0)
    no_repeat_sentences: bool = False
    logit_bias: dict[str, Annotated[Number, Field(ge=-100, le=100)]] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], BeforeValidator(_listed), Field(max_length=16)] = []
    guided_choice: list[Annotated[str, Field(min_length=1)]] | None = Field(default=None, min_length=1)
    guided_regex: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    guided_json: dict[str, Any] | None = None

    def decoding(self, longest: int, beams: int) -> Decoding:
        """How the text is to be written.

        Args:
            longest: tokens that are written at most.
            beams: ways that a search may follow at once.

        Raises:
            DataError: the fields do not go together.
        """
        contrast = None
        if self.dola_layers is not None:
            layers = self.dola_layers if isinstance(self.dola_layers, str) else tuple(self.dola_layers)
            contrast = DoLa(layers=layers, relative_top=self.dola_relative_top)
        elif self._set("dola_relative_top"):
            raise DataError(f"{self._told('dola_relative_top')} is of dola_layers, and there are none; give low or high, or leave it out")
        return Decoding(
            by=self._by(beams), rules=tuple(self.rules()), contrast=contrast, stops=tuple(self.stop), max_new_tokens=max(1, longest),
        )  # fmt: skip

    def _by(self, beams: int) -> Sampler | Search:
        """Token by token, or by a search."""
        if self.use_beam_search is False and (self.num_beams or 1) > 1:
            raise DataError(f"use_beam_search is false, and {self._told('num_beams')}; leave out the one or the other")
        searched = bool(self.use_beam_search) or (self.num_beams or 1) > 1
        if self.penalty_alpha > 0:
            return self._contrastive(beams, searched)
        if searched:
            return self._beam(beams)
        if alien := next(filter(self._set, OF_BEAMS), None):
            raise DataError(f"{self._told(alien)} is of a beam search, and there is none; set num_beams to 2 or more, or leave it out")
        if self.do_sample is False:
            self._undrawn(OF_DRAWS, "do_sample=false takes the likeliest token", "leave out the one or the other")
        if self.do_sample and self.temperature == 0:
            raise DataError("temperature=0 takes the likeliest token, and do_sample=true draws; leave out the one or the other")
        return Greedy() if self.temperature == 0 or self.do_sample is False else self._random()

    def _random(self) -> Random:
        top_k = self.top_k if self.top_k is not None and self.top_k > 0 else None
        return Random(temperature=self.temperature, top_p=self.top_p, top_k=top_k, min_p=self.min_p, typical_p=self.typical_p)

    def _beam(self, beams: int) -> Beam:
        width, groups = self.num_beams or min(4, beams), self.num_beam_groups
        self._fits("num_beams", width, beams)
        if width % groups:
            raise DataError(f"num_beam_groups={groups} does not part num_beams={width} evenly; {width} would")
        if self.diversity_penalty and groups == 1:
            raise DataError(f"{self._told('diversity_penalty')} sets groups apart, and there is one; set num_beam_groups to {width}, say")
        if self.do_sample:
            if groups > 1:
                raise DataError(f"num_beam_groups={groups} goes with the likeliest ways only; leave out do_sample")
            if self.temperature == 0:
                raise DataError("temperature=0 leaves nothing to draw, and do_sample=true draws beams; leave out the one or the other")
        else:
            self._undrawn(OF_DRAWS, f"num_beams={width} follows the likeliest ways", "set do_sample to true, or leave it out")
            self._one_text(f"num_beams={width}", "or set do_sample to true")
        ends = "never" if self.early_stopping == "never" else "full" if self.early_stopping else "likely"
        return Beam(
            n_beams=width, length_penalty=self.length_penalty, ends=ends, groups=groups, diversity=self.diversity_penalty,
            sampler=self._random() if self.do_sample else None,
        )  # fmt: skip

    def _contrastive(self, beams: int, searched: bool) -> Contrastive:
        told = self._told("penalty_alpha")
        if searched:
            raise DataError(f"{told} is a search of its own, and no beam search; leave out the one or the other")
        for field, instead in (*((name, "leave it out") for name in OF_BEAMS), ("dola_layers", "leave out the one or the other")):
            if self._set(field):
                raise DataError(f"{self._told(field)} does not go with {told}; {instead}")
        if self.do_sample:
            raise DataError(f"{told} draws nothing; leave out do_sample, or penalty_alpha")
        self._undrawn([name for name in OF_DRAWS if name != "top_k"], f"{told} draws nothing", "leave it out")
        self._one_text(told, "or leave out penalty_alpha")
        tried = self.top_k if self.top_k is not None and self.top_k > 0 else min(5, beams)
        self._fits("top_k", tried, beams)
        return Contrastive(top_k=tried, alpha=self.penalty_alpha)

    def _set(self, name: str) -> bool:
        """Whether a field says something else than if it were left out."""
        return getattr(self, name) != type(self).model_fields[name].default

    def _told(self, name: str) -> str:
        return f"{name}={getattr(self, name)!r}"

    def _fits(self, name: str, ways: int, beams: int) -> None:
        if ways > beams:
            raise DataError(f"{name}={ways} ways would be followed at once, and here {beams} may be; give {beams} or fewer")

    def _undrawn(self, names: Any, because: str, instead: str) -> None:
        """Refuses fields of what is drawn where nothing is; a temperature of 0 or 1 says nothing against that."""
        for name in names:
            if self._set(name) and not (name == "temperature" and self.temperature == 0) and not (name == "top_k" and (self.top_k or 0) <= 0):
                raise DataError(f"{self._told(name)} is of what is drawn, and {because}; {instead}")

    def _one_text(self, search: str, instead: str) -> None:
        if self.n > 1:
            raise DataError(f"n={self.n} texts would be the same one, since {search} draws nothing; ask for 1, {instead}")

    def rules(self) -> list[Rule]:
        """What changes the scores of tokens."""
        found: list[Rule] = []
        if self.repetition_penalty != 1.0:
            found.append(Repetition(factor=self.repetition_penalty))
        if self.presence_penalty:
            found.append(Presence(amount=self.presence_penalty))
        if self.frequency_penalty:
            found.append(Frequency(amount=self.frequency_penalty))
        if self.no_repeat_ngram_size:
            found.append(NoRepeatNGram(n=self.no_repeat_ngram_size))
        if self.no_repeat_sentences:
            found.append(NoRepeatedSentence())
        if self.logit_bias:
            if alien := next((token for token in self.logit_bias if not (token.isascii() and token.isdecimal() and len(token) < 19)), None):
                raise DataError(f"logit_bias: {alien!r} is no token id; give numbers as its keys")
            found.append(LogitBias(biases={int(token): bias for token, bias in self.logit_bias.items()}))
        held = [rule for rule in self.held_to() if rule is not None]
        if len(held) > 1:
            raise DataError("response_format and guided_choice, guided_regex, guided_json each hold the text to something; give one of them")
        return found + held

    def held_to(self) -> list[Rule | None]:
        """What the text is held to."""
        return [
            None if self.guided_choice is None else OneOf(texts=tuple(self.guided_choice)),
            None if self.guided_regex is None else Regex(pattern=self.guided_regex),
            None if self.guided_json is None else Json(matching=self.guided_json),
        ]  # fmt: skip
