"""`Asked`: a trained model that can be asked, made to go on, and read by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.evals.likelihood import told_tokens
from bloomery.generate import Greedy, Sampler, complete
from bloomery.models import causal
from bloomery.models.model import CausalModel
from bloomery.nn import SequenceLayout
from bloomery.nn.seen import Seen
from bloomery.stages.trained import opened, tokenizer_of
from bloomery.store import Artifact
from bloomery.text.chat import ChatTemplate, Message
from bloomery.text.tokenizer import Tokenizer

AT_ONCE = 64
GREEDY = Greedy()


@dataclass(frozen=True)
class Asked:
    """A decoder with its tokenizer.

    Attributes:
        model: in the state in which models are asked, on its device.
        tokenizer: its own.
    """

    model: CausalModel
    tokenizer: Tokenizer

    @classmethod
    def of(cls, trained: Artifact, device: str) -> Asked:
        """What a `Trained` has left; raises `ConfigError` where it cannot write."""
        return cls(causal(opened(trained, device)), tokenizer_of(trained))

    def replies(
        self, conversations: Sequence[Sequence[Message]], max_new_tokens: int, sampler: Sampler = GREEDY, seeds: Sequence[int] | None = None
    ) -> list[str]:
        """What it answers to the last message of each."""
        rendered = ChatTemplate().render_batch(conversations, self.tokenizer, add_generation_prompt=True)
        return self.written([one.ids for one in rendered], max_new_tokens, sampler, seeds)

    def written(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, sampler: Sampler = GREEDY, seeds: Sequence[int] | None = None
    ) -> list[str]:
        """How it goes on with each prompt, as text."""
        found = complete(
            self.model, prompts, {self.tokenizer.end}, max_new_tokens, AT_ONCE, self.tokenizer.vocab_size, sampler=sampler, seeds=seeds,
        )
        return [self.tokenizer.decode(ids) for ids in found]

    def ids(self, text: str) -> list[int]:
        """A text as the beginning of a document."""
        return [self.tokenizer.begin, *self.tokenizer.encode(text)][: self.model.config.max_seq_len - 1]

    def likelihoods(self, texts: Sequence[str]) -> list[float]:
        """log p of each text as the beginning of a document, in nats."""
        found: list[float] = []
        for start in range(0, len(texts), AT_ONCE):
            rows = [(ids, [True] * len(ids)) for ids in map(self.ids, texts[start : start + AT_ONCE])]
            told = told_tokens(self.model, rows, str(self.model.device))
            found += torch.zeros(len(rows), device=told.logprobs.device).index_add_(0, told.rows, told.logprobs).tolist()
        return found

    @torch.no_grad()
    def seen(self, ids: Sequence[int]) -> Seen:
        """Its inner states behind one row."""
        seen, tokens = Seen(), torch.tensor([ids], device=self.model.device)
        self.model.features(tokens, SequenceLayout.rows(*tokens.shape, device=self.model.device), seen=seen)
        return seen

    def pieces(self, ids: Sequence[int] | Tensor) -> list[str]:
        """Each token as text."""
        return [self.tokenizer.decode([int(id_)]) or "⟨⟩" for id_ in ids]
