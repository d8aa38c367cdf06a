"""A model of ours for lm-evaluation-harness, in process: registered as "bloomery" once this module is imported.

    from lm_eval import simple_evaluate
    simple_evaluate(Harnessed(model, tokenizer), tasks=["arc_easy"])

Texts begin with `<|begin|>`, as documents do when they are learnt. Over HTTP the harness asks `bloomery serve` as "local-completions"; what it
sends as ids there is read as it is.

Source: Gao et al. (2021), "A framework for few-shot language model evaluation", version 0.4's interface `TemplateLM`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM  # pyrefly: ignore[missing-import]
from lm_eval.api.registry import register_model  # pyrefly: ignore[missing-import]

from bloomery.evals.likelihood import told_tokens
from bloomery.generate import Decoding, Greedy, Random, Writer
from bloomery.models.model import CausalModel
from bloomery.text.tokenizer import Tokenizer

LONGEST = 256  # new tokens, where a task says nothing


@register_model("bloomery")
class Harnessed(TemplateLM):
    """A decoder that the harness can ask.

    Args:
        model: in the state in which models are asked.
        tokenizer: its own.
        at_once: rows that are read beside each other; changes nothing but speed and memory.
        begins: token ids that every context begins with; `<|begin|>` unless given.
    """

    def __init__(self, model: CausalModel, tokenizer: Tokenizer, at_once: int = 16, begins: Sequence[int] | None = None) -> None:
        super().__init__()
        self.asked, self.spells, self.at_once = model, tokenizer, at_once
        self.begins = [tokenizer.begin] if begins is None else list(begins)

    @property
    def eot_token_id(self) -> int:
        """The token that ends texts."""
        return self.spells.end

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        return self.spells.begin

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache of requests."""
        return "bloomery"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """A text as ids, begun as contexts are unless it is said not to be."""
        return [*(self.begins if add_special_tokens is not False else []), *self.spells.encode(string)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts, each token told once; texts longer than the model reads are told in rows that follow each other, each from the
        last token of the one before."""
        longest, rows = self.asked.config.max_seq_len, list[tuple[int, list[int]]]()
        for i, request in enumerate(requests):
            ids = [self.prefix_token_id, *self.spells.encode(request.args[0])]
            rows += [(i, ids[start : start + longest]) for start in range(0, max(1, len(ids) - 1), longest - 1)]
        found = [0.0] * len(requests)
        for (i, _), (total, _) in zip(rows, self._told([(ids[:1], ids[1:]) for _, ids in rows]), strict=True):
            found[i] += total
        return found

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any) -> list[tuple[float, bool]]:
        """log p of continuations, and whether each of their tokens is the likeliest. The beginning of what is too long is cut off."""
        longest, pairs = self.asked.config.max_seq_len, []
        for _, context, continuation in requests:
            over = max(0, len(context) + len(continuation) - longest)
            pairs.append((context[over:] or context[-1:], continuation[-(longest - 1) :]))
        return self._told(pairs)

    def _told(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        found: list[tuple[float, bool]] = []
        for start in range(0, len(pairs), self.at_once):
            part = pairs[start : start + self.at_once]
            rows = [([*before, *after], [False] * len(before) + [True] * len(after)) for before, after in part]
            told = told_tokens(self.asked, rows, str(self.asked.device))
            totals = torch.zeros(len(part), dtype=torch.float64).index_add_(0, told.rows.cpu(), told.logprobs.double().cpu())
            missed = torch.zeros(len(part)).index_add_(0, told.rows.cpu(), (~told.likeliest).float().cpu())
            found += [(total, missed == 0) for total, missed in zip(totals.tolist(), missed.tolist(), strict=True)]
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What is written to each prompt, up to one of the strings that a task says end it; greedily unless it says otherwise."""
        found = []
        for request in requests:
            prompt, asked = request.args
            until = asked.get("until") or []
            temperature = float(asked.get("temperature", 0.0)) if asked.get("do_sample", "temperature" in asked) else 0.0
            decoding = Decoding(
                by=Random(temperature=temperature) if temperature > 0 else Greedy(), stops=(until,) if isinstance(until, str) else tuple(until),
                max_new_tokens=int(asked.get("max_gen_toks", asked.get("max_tokens", LONGEST))),
            )  # fmt: skip
            room = max(1, self.asked.config.max_seq_len - decoding.max_new_tokens)
            found.append(Writer(self.asked, self.spells, decoding).write([self.tok_encode(prompt)[-room:]])[0].text)
        return found
