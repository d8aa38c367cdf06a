"""Answers as OpenAI's API has them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from bloomery.generate import Job
from bloomery.generate.jobs import Told
from bloomery.text.tokenizer import Tokenizer

FINISHED = {"end": "stop", "stop": "stop", "length": "length"}


@dataclass(frozen=True)
class Sheet:
    """What all pieces of an answer have in common.

    Attributes:
        id: of the answer.
        model: name of the model.
        tokenizer: its own.
        chat: whether it answers a conversation.
        ids: whether tokens are given as ids, too.
        created: seconds since 1970.
    """

    id: str
    model: str
    tokenizer: Tokenizer
    chat: bool
    ids: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, texts: Sequence[tuple[str, Job]]) -> dict[str, Any]:
        """An answer at once."""
        choices = [
            {"index": index, **({"message": {"role": "assistant", "content": text, "refusal": None}} if self.chat else {"text": text}),
             "logprobs": self.logprobs(job, 0, len(job.told)), "finish_reason": FINISHED[job.ended or "length"], **self._ids(job)}
            for index, (text, job) in enumerate(texts)
        ]  # fmt: skip
        return self._head("chat.completion" if self.chat else "text_completion") | {
            "choices": choices, "usage": usage([job for _, job in texts]),
        }  # fmt: skip

    def piece(self, index: int, text: str, job: Job, tokens: tuple[int, int], last: bool, first: bool = False) -> dict[str, Any]:
        """A part of a stream: `tokens` are those that it tells, as a stretch of the job's."""
        delta = ({"role": "assistant"} if first else {}) | ({"content": text} if text or first else {})
        choice = {
            "index": index, **({"delta": delta} if self.chat else {"text": text}), "logprobs": self.logprobs(job, *tokens),
            "finish_reason": FINISHED[job.ended or "length"] if last else None,
        }  # fmt: skip
        return self._head("chat.completion.chunk" if self.chat else "text_completion") | {"choices": [choice]}

    def used(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """The last part of a stream that is asked what it took."""
        return self._head("chat.completion.chunk" if self.chat else "text_completion") | {"choices": [], "usage": usage(jobs)}

    def logprobs(self, job: Job, start: int, stop: int) -> dict[str, Any] | None:
        """What is told of some of a job's tokens."""
        if job.tells is None:
            return None
        told = job.told[start:stop]
        if self.chat:
            return {"content": [
                self._spelt(one.token) | {"logprob": one.logprob, "top_logprobs": [self._spelt(t) | {"logprob": p} for t, p in one.likeliest]}
                for one in told
            ], "refusal": None}  # fmt: skip
        offsets = list(accumulate((len(self.tokenizer.decode([one.token])) for one in job.told[:stop]), initial=0))
        return {
            "tokens": [self._name(one.token) for one in told], "token_logprobs": [one.logprob for one in told],
            "top_logprobs": [self._likeliest(one) for one in told], "text_offset": offsets[start:-1],
        }  # fmt: skip

    def _ids(self, job: Job) -> dict[str, list[int]]:
        """The prompt's, and the text's with the token that has ended it, as vLLM names them."""
        ended = [self.tokenizer.end] if job.ended == "end" else []
        return {"prompt_token_ids": list(job.prompt), "token_ids": [*job.tokens, *ended]} if self.ids else {}

    def _likeliest(self, one: Told) -> dict[str, float] | None:
        """By their spelling; of several that are spelt alike, the likeliest. The token itself is always among them."""
        if one.logprob is None:
            return None
        found: dict[str, float] = {}
        for its, logprob in [*one.likeliest, (one.token, one.logprob)]:
            found[self._name(its)] = max(logprob, found.get(self._name(its), logprob))
        return found

    def _spelt(self, token: int) -> dict[str, Any]:
        return {"token": self._name(token), "bytes": list(self.tokenizer.decode_bytes([token]))}

    def _name(self, token: int) -> str:
        """A token as text; one that is part of a character only, as its bytes."""
        data = self.tokenizer.decode_bytes([token])
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "system_fingerprint": None}


def usage(jobs: Sequence[Job]) -> dict[str, Any]:
    """Tokens of an answer; a prompt of several texts counts once. Where a drafter has guessed, how many of its guesses stood."""
    guessed, stood = sum(job.guessed for job in jobs), sum(job.stood for job in jobs)
    prompt, written = sum(len(ids) for ids in {id(job.prompt): job.prompt for job in jobs}.values()), sum(len(job.tokens) for job in jobs)
    return {
        "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": sum(job.reused for job in jobs)},
    } | ({} if not guessed else {
        "completion_tokens_details": {"accepted_prediction_tokens": stood, "rejected_prediction_tokens": guessed - stood},
    })  # fmt: skip


def failure(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """What went wrong."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
