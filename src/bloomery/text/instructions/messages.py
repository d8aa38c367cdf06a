"""Lists of messages in the usual spellings (OpenAI, ShareGPT, transcripts) as messages of ours; what has no place there is counted by name."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.errors import DataError

ROLES = {
    "user": "user", "human": "user", "prompter": "user", "system": "system", "developer": "system", "assistant": "assistant",
    "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "bing": "assistant", "bard": "assistant",
}  # fmt: skip
"""What other data sets call our roles."""
TOOL_ROLES = ("tool", "function", "function_call", "function_response", "observation", "tool_call", "tool_response", "ipython")
MARKS = ("learn", "weight", "loss_weight", "train", "trainable")
"""Fields of a message that say whether it is to be learnt; false and 0 say no."""

_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_TRANSCRIBED = {"Human": "user", "Assistant": "assistant"}


@dataclass
class Talk:
    """A conversation as far as it has been read.

    Attributes:
        messages: {"role", "content"} each.
        learn: for each message whether it is to be learnt; None where its data does not say.
        ignored: what was left out, by name, and how often.
    """

    messages: list[dict[str, str]] = field(default_factory=list)
    learn: list[bool | None] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, role: str, content: str, learn: bool | None = None) -> None:
        """One more message."""
        self.messages.append({"role": role, "content": content})
        self.learn.append(learn)

    def extend(self, other: Talk) -> None:
        """All that another one has."""
        self.messages += other.messages
        self.learn += other.learn
        self.ignored += other.ignored

    def joined(self) -> Talk:
        """Messages of one speaker in a row as one message, as is needed where what stood between them was left out."""
        talk = Talk(ignored=Counter(self.ignored))
        for message, learn in zip(self.messages, self.learn, strict=True):
            if talk.messages and talk.messages[-1]["role"] == message["role"]:
                talk.messages[-1]["content"] += "\n\n" + message["content"]
                talk.learn[-1] = None if learn is None and talk.learn[-1] is None else bool(learn) and bool(talk.learn[-1])
                talk.ignored["turns joined"] += 1
            else:
                talk.add(**message, learn=learn)
        return talk


def read_messages(value: Any, name: str = "messages") -> Talk:
    """A list of messages, one message, a JSON text of either, or a transcript.

    Args:
        value: as it stands in the row.
        name: the column, for errors.

    Raises:
        DataError: it is none of these.
    """
    if isinstance(value, str):
        if is_transcript(value):
            return read_transcript(value)
        try:
            value = json.loads(value)
        except ValueError:
            raise DataError(f"{name}={_short(value)} is a text, neither JSON nor a transcript; give [{{'role': …, 'content': …}}, …]") from None
    if isinstance(value, Mapping) and any(key in value for key in ("content", "value")):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f"{name}={_short(value)} is not a list; give [{{'role': …, 'content': …}}, …]")
    talk = Talk()
    for i, message in enumerate(value):
        _read_message(message, f"{name}[{i}]", talk)
    return talk.joined() if talk.ignored else talk


def is_transcript(text: str) -> bool:
    """Whether a text is a dialogue as HH-RLHF writes it: "Human: …", blank line, "Assistant: …"."""
    return bool(_SPEAKER.match(text))


def read_transcript(text: str) -> Talk:
    """The turns of such a dialogue, without blanks around them. Turns of one speaker in a row become one.

    An empty last turn, as in a prompt that ends in "Assistant:", is left out.
    """
    talk = Talk()
    _, *parts = _SPEAKER.split(text)
    for i, (speaker, content) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        if content.strip() or 2 * i + 2 < len(parts):
            talk.add(_TRANSCRIBED[speaker], content.strip())
    return talk.joined()


def _read_message(message: Any, name: str, talk: Talk) -> None:
    if not isinstance(message, Mapping):
        raise DataError(f"{name}={_short(message)} is not a message; give {{'role': …, 'content': …}}")
    said = next((message[key] for key in ("role", "from", "speaker") if message.get(key) is not None), None)
    content = next((message[key] for key in ("content", "value", "text") if message.get(key) is not None), None)
    if said is None or (content is None and not any(message.get(key) for key in ("tool_calls", "function_call"))):
        raise DataError(f"{name}={_short(message)} is not a message; give {{'role': …, 'content': …}}")
    if str(said).lower() in TOOL_ROLES:
        talk.ignored["tool messages"] += 1
        return
    before = talk.ignored.total()
    for key in ("tool_calls", "function_call"):
        if message.get(key):
            talk.ignored[key] += 1
    text = _content(content, name, talk.ignored)
    if not text and talk.ignored.total() > before:
        return
    mark = next((message[key] for key in MARKS if message.get(key) is not None), None)
    talk.add(ROLES.get(str(said).lower(), str(said)), text, None if mark is None else bool(mark))


def _content(value: Any, name: str, ignored: Counter[str]) -> str:
    """The text of a content: as it is, or of its parts of type text."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, Sequence):
        raise DataError(f"{name}.content={_short(value)} is neither a text nor a list of parts; give a text")
    texts = []
    for part in value:
        known = part if isinstance(part, Mapping) else {"text": part}
        kind, text = known.get("type", "text"), known.get("text", known.get("value"))
        if kind in ("text", "input_text", "output_text") and isinstance(text, str):
            texts.append(text)
        else:
            ignored[f"{kind} parts"] += 1
    return "\n\n".join(texts)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
