"""The bodies of requests as OpenAI's API has them, checked; how texts are to be written is said by their `Controls`.

What a client sends along that changes nothing of the answer (`user`, `metadata`, …) is passed over; what would change it and cannot be done is
refused by name.

Source: OpenAI's API reference, "Create chat completion" and "Create completion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bloomery.core.errors import DataError
from bloomery.generate import Decoding, Json, Random, Rule
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer
from bloomery.web.controls import Controls, Whole

PASSED_OVER = frozenset((
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls",
))  # fmt: skip
MOST_PROMPTS = 256
Texts = str | list[str] | list[Whole] | list[list[Whole]]
"""A text or several, each in words or as token ids."""
B = TypeVar("B", bound=BaseModel)


class StreamOptions(BaseModel):
    """What comes along with a stream."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class Asked(Controls):
    """What all requests for texts have in common."""

    model: str
    seed: Whole | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool = False
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] = "raw_logprobs"

    @property
    def longest(self) -> int:
        """The most tokens that are written."""
        raise NotImplementedError

    @property
    def tells(self) -> int | None:
        """How many of the likeliest tokens are told with each; None tells none."""
        raise NotImplementedError

    def tells_by(self, decoding: Decoding) -> Random | None:
        """The sampler, where what is told is what tokens are drawn by; None tells what the model says.

        Raises:
            DataError: that cannot be told of such a text.
        """
        if self.logprobs_mode == "raw_logprobs":
            return None
        if not isinstance(decoding.by, Random) or decoding.contrast is not None:
            raise DataError("logprobs_mode=processed_logprobs tells by what tokens are drawn, and here none are, or of what DoLa makes of the "
                            "model; leave it out")  # fmt: skip
        if decoding.rules:
            raise DataError("logprobs_mode=processed_logprobs tells what the sampler makes of the model's scores, not rules too; leave out "
                            "penalties, logit_bias and what holds texts to something")  # fmt: skip
        return decoding.by


class CompletionBody(Asked):
    """`POST /v1/completions`."""

    prompt: Texts
    max_tokens: Whole | None = Field(default=16, ge=0)
    logprobs: Whole | None = Field(default=None, ge=0, le=20)
    echo: bool = False
    best_of: Whole | None = None
    suffix: str | None = None

    @property
    def longest(self) -> int:
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def tells(self) -> int | None:
        return self.logprobs

    def prompts(self, tokenizer: Tokenizer) -> list[list[int]]:
        """Each of them as ids: texts are begun as documents are."""
        if self.best_of not in (None, 1, self.n):
            raise DataError("best_of is not done here; ask for n texts and choose among them")
        if self.echo and self.logprobs_mode != "raw_logprobs":
            raise DataError("echo has tokens that were not drawn, and logprobs_mode=processed_logprobs is of those that were; leave one out")
        if self.suffix:
            raise DataError("suffix is not done here: no model here fills in a middle; leave it out")
        return ids_of(self.prompt, "prompt", tokenizer)


class Part(BaseModel):
    """A piece of a message."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class MessageBody(BaseModel):
    """What someone has said."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None
    refusal: str | None = None

    def plain(self) -> dict[str, str]:
        """As a `ChatTemplate` reads it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatBody(Asked):
    """`POST /v1/chat/completions`."""

    messages: list[MessageBody] = Field(min_length=1)
    max_tokens: Whole | None = Field(default=None, ge=1)
    max_completion_tokens: Whole | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: Whole | None = Field(default=None, ge=0, le=20)
    response_format: dict[str, Any] | None = None

    @property
    def longest(self) -> int:
        return self.max_completion_tokens or self.max_tokens or 1 << 20  # the end of the context ends it

    @property
    def tells(self) -> int | None:
        if self.top_logprobs and not self.logprobs:
            raise DataError("top_logprobs is told with logprobs only; set logprobs to true")
        return (self.top_logprobs or 0) if self.logprobs else None

    def prompts(self, tokenizer: Tokenizer) -> list[list[int]]:
        """The conversation as ids, up to where the assistant speaks."""
        messages = [message.plain() for message in self.messages]
        return [ChatTemplate().render(messages, tokenizer, add_generation_prompt=True).ids]

    def held_to(self) -> list[Rule | None]:
        return [*super().held_to(), _formatted(self.response_format)]


class EmbeddingBody(BaseModel):
    """`POST /v1/embeddings`."""

    model_config = ConfigDict(extra="forbid")
    model: str
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"

    def texts(self, tokenizer: Tokenizer) -> list[list[int]]:
        """Each of them as ids."""
        return ids_of(self.input, "input", tokenizer)


def ids_of(given: Texts, field: str, tokenizer: Tokenizer) -> list[list[int]]:
    """Each of the texts of a field as ids; those in words are begun as documents are."""
    if isinstance(given, str):
        given = [given]
    if not given:
        raise DataError(f"{field} is empty; give a text, or token ids")
    if isinstance(given[0], int):
        given = [given]  # type: ignore[list-item]
    if len(given) > MOST_PROMPTS:
        raise DataError(f"{field} has {len(given)} texts, and a request may have {MOST_PROMPTS}; ask in several")
    return [[tokenizer.begin, *tokenizer.encode(one)] if isinstance(one, str) else list(one) for one in given]  # type: ignore[arg-type]


def _formatted(given: dict[str, Any] | None) -> Rule | None:
    """OpenAI's `response_format`."""
    kind = None if given is None else given.get("type")
    if given is None or kind == "text":
        return None
    if kind == "json_object":
        return Json(matching={"type": "object"})
    schema = given.get("json_schema")
    if kind == "json_schema" and isinstance(schema, Mapping) and isinstance(schema.get("schema"), Mapping):
        return Json(matching=dict(schema["schema"]))
    raise DataError(f"response_format.type={kind!r} is none that is known; give text, json_object, or json_schema with a json_schema.schema")


def read_body(kind: type[B], plain: Any) -> B:
    """A body as a value.

    Raises:
        DataError: says which field is wrong, and how.
    """
    if not isinstance(plain, dict):
        raise DataError("the body is no JSON object; give {\"model\": …}")
    given = {name: value for name, value in plain.items() if name not in PASSED_OVER and not (value is None and name not in ("model",))}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part in ("str", "int", "bool"))))
        if first["type"] == "extra_forbidden":
            raise DataError(f"{place} is not done here; leave it out") from None
        raise DataError(f"{place or 'the body'}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
