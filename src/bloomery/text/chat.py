"""`ChatTemplate`: the one place that knows how a conversation becomes ids, for training, chatting and export alike.

    <|begin|><|system|>…<|end|><|user|>…<|end|><|assistant|>…<|end|><|user|>…
                                                          └─ supervised ─┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bloomery.core.config import Config
from bloomery.core.errors import DataError
from bloomery.text.tokenizer import Tokenizer

Message = Mapping[str, Any]
"""{"role": "system" | "user" | "assistant", "content": text}"""

JINJA = """\
{%- if not messages %}{{ raise_exception('a conversation needs at least one message') }}{% endif -%}
{{- '<|begin|>' -}}
{%- set state = namespace(expected='user') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' and loop.first -%}
{{- '<|system|>' + message['content'] + '<|end|>' -}}
{%- elif message['role'] != state.expected -%}
{{- raise_exception('roles must be an optional system, then user and assistant in turn') -}}
{%- elif message['role'] == 'user' -%}
{{- '<|user|>' + message['content'] + '<|end|>' -}}
{%- set state.expected = 'assistant' -%}
{%- else -%}
{{- '<|assistant|>' -}}{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}
{%- set state.expected = 'user' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{%- if state.expected == 'user' %}{{ raise_exception('a reply needs a user message before it') }}{% endif -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""


class Rendered(NamedTuple):
    """A conversation as ids, and which of them are supervised."""

    ids: list[int]
    """Token ids, beginning with the only `<|begin|>`."""
    mask: list[bool]
    """True for the assistant's tokens and the `<|end|>` that closes each of its turns; as long as `ids`."""


class ChatTemplate(Config):
    """Renders messages. Contents are inert: control tokens spelled in them stay text."""

    @property
    def jinja(self) -> str:
        """The template for `tokenizer_config.json`: `transformers` renders the same ids from it, and the same assistant mask.

        There, unlike here, a control token spelled in a message is obeyed: that is how `transformers` reads its rendered text.
        """
        return JINJA

    def render(self, messages: Sequence[Message], tokenizer: Tokenizer, add_generation_prompt: bool = False) -> Rendered:
        """One conversation as ids and mask.

        Args:
            messages: an optional system message, then user and assistant in turn.
            tokenizer: any with the control tokens.
            add_generation_prompt: end with `<|assistant|>`, for the model to go on; the last message must be the user's.

        Raises:
            DataError: no messages, a role out of order or unknown, a content that is empty or no text.
        """
        return self.render_batch([messages], tokenizer, add_generation_prompt)[0]

    def render_batch(
        self, conversations: Sequence[Sequence[Message]], tokenizer: Tokenizer, add_generation_prompt: bool = False,
    ) -> list[Rendered]:
        """Many conversations at once: their contents are encoded together, on all cores. As `render` otherwise."""
        for messages in conversations:
            check_messages(messages, add_generation_prompt)
        contents = iter(tokenizer.encode_batch([m["content"] for messages in conversations for m in messages]))
        opening = {"system": tokenizer.system, "user": tokenizer.user, "assistant": tokenizer.assistant}
        rendered = []
        for messages in conversations:
            ids, mask = [tokenizer.begin], [False]
            for message in messages:
                content = next(contents)
                ids += [opening[message["role"]], *content, tokenizer.end]
                mask += [False, *[message["role"] == "assistant"] * (len(content) + 1)]
            if add_generation_prompt:
                ids.append(tokenizer.assistant)
                mask.append(False)
            rendered.append(Rendered(ids, mask))
        return rendered


def check_messages(messages: Sequence[Message], add_generation_prompt: bool = False) -> None:
    """Checks the form of a conversation; raises `DataError` naming the first message that is wrong."""
    if not messages:
        raise DataError("a conversation needs at least one message; give [{'role': 'user', 'content': …}]")
    expected = "user"
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise DataError(f"messages[{i}]={message!r} is not a message; give {{'role': …, 'content': …}}")
        role, content = message["role"], message["content"]
        if role not in ("system", "user", "assistant"):
            raise DataError(f"messages[{i}].role={role!r} is unknown; the roles are system, user and assistant")
        if not isinstance(content, str) or not content:
            raise DataError(f"messages[{i}].content={content!r} is not a text with something in it; drop the message or fill it")
        if role == "system" and i == 0:
            continue
        if role != expected:
            raise DataError(f"messages[{i}].role={role!r} where {expected!r} is due; user and assistant take turns, after an optional system")
        expected = "assistant" if role == "user" else "user"
    if add_generation_prompt and expected != "assistant":
        raise DataError(f"messages[{len(messages) - 1}] is not the user's, so there is nothing to reply to; end with a user message")
