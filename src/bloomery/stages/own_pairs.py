"""`OwnPairs`: pairs of what a policy writes itself, for losses that learn from pairs directly.

    documents-00000.parquet   a preference for each prompt to which texts earned differently, for `Prepare(source=LeftBy(stage=…))` to read
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt
from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.core.units import Tokens
from bloomery.data import Each, Packed, TokenShards
from bloomery.optim import AdamW, Batches
from bloomery.stages.look_back import frozen_models
from bloomery.stages.prepare import documents
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.trained import Trained, opened, tokenizer_of
from bloomery.store import Workspace
from bloomery.text.documents import Document, conversation, to_batch, write_parquet
from bloomery.text.instructions.preferences import Completion, Preference
from bloomery.text.tokenizer import Tokenizer
from bloomery.train import TrainState
from bloomery.train.beside import Beside
from bloomery.train.credit import Reinforce
from bloomery.train.earnings import Earns
from bloomery.train.rewards import Reward
from bloomery.train.rollouts import Rollout, Rollouts

PROMPTS_AT_ONCE = 32


class OwnPairs(Stage):
    """Has a policy write several texts to each prompt, of which the one that earns most is preferred to the one that earns least. A prompt
    whose texts all earn the same gives no pair.

    Pairs that others wrote say which of two texts is right, and not which of the things that this policy would say it says rightly.

    Example:
        >>> own = OwnPairs(policy=chat, prompts=asked, rewards=(Likelier(by=judge),), count=500, max_seq_len=256, max_new_tokens=28)
        >>> Prepare(name="own", source=LeftBy(stage=own))

    Source: the best and the worst of n as a pair, judged by a model: Meng, Xia and Chen (2024), arXiv 2405.14734, section 3; by the policy
    itself: Yuan et al. (2024), arXiv 2401.10020, section 2.4.
    """

    policy: Trained
    """Who writes."""
    prompts: Tokenize
    """Conversations, encoded so that what answers are is known; the policy goes on where the first one begins."""
    rewards: tuple[Reward, ...] = Field(min_length=1)
    """What texts are worth; they add up by their weights."""
    count: Annotated[int, Gt(0)]
    """Prompts: the first ones."""
    samples: Annotated[int, Ge(2)] = 8
    """Texts to each."""
    max_seq_len: Tokens
    """Tokens of prompt and text together at most."""
    max_new_tokens: Tokens
    """Longest text."""
    seed: int = 0
    """Of what is drawn."""

    def inputs(self) -> dict[str, Stage]:
        return super().inputs() | {"prompts.corpus": self.prompts.corpus}  # whose messages tokens do not tell

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        earns = Earns(rewards=self.rewards, credit=Reinforce())
        model, tokenizer = opened(inputs[self.policy], context.device), tokenizer_of(inputs[self.policy])
        beside = Beside(frozen_models(earns.frozen(), inputs, context.mesh, model.config))
        texts = Rollouts(
            Packed(TokenShards.open(inputs[self.prompts]), Each(), time=self.max_seq_len, seed=0),
            Rollout(samples=self.samples, max_new_tokens=self.max_new_tokens, earns=earns),
            TrainState(model, AdamW().build(model), beside=beside), Batches(PROMPTS_AT_ONCE * self.samples), ends=tokenizer.end,
            pad=tokenizer.pad, vocab_size=tokenizer.vocab_size, seed=self.seed, folder=workspace.path, tokenizer=tokenizer,
        )  # fmt: skip
        asked = {row["id"]: row["messages"] for batch in documents(inputs[self.prompts.corpus], columns=("id", "messages"))
                 for row in batch.to_pylist()}  # fmt: skip
        found, apart = list[Document](), list[float]()
        for first in range(0, self.count, PROMPTS_AT_ONCE):
            for document, ahead in self._pairs(texts, first, min(PROMPTS_AT_ONCE, self.count - first), asked, tokenizer):
                found.append(document)
                apart.append(ahead)
            context.progress(f"{self.reference}: {first} of {self.count} prompts")
        if not found:
            raise DataError(f"{self.reference}: all texts to each of {self.count} prompts earned the same; give other rewards, or more samples")
        write_parquet(workspace.path / "documents-00000.parquet", pa.Table.from_batches([to_batch(found)]))
        workspace.count("documents-00000.parquet", rows=len(found))
        return {"documents": len(found), "prompts": self.count, "apart": round(float(np.mean(apart)), 4)}

    def _pairs(
        self, texts: Rollouts, first: int, prompts: int, asked: dict[str, Any], tokenizer: Tokenizer
    ) -> Iterator[tuple[Document, float]]:  # fmt: skip
        """The pairs of some prompts, and by how much the better text is ahead of the worse."""
        first_row, rows = first * self.samples, prompts * self.samples
        earned = texts.earned(first_row, rows).reshape(prompts, self.samples)
        ids = {(span.row - first_row) // self.samples: span.id for span in texts.documents(first_row, rows)}
        there = texts.rows(first_row, rows)
        said = [targets[weight > 0].tolist() for targets, weight in zip(there.targets, there.loss_weight, strict=True)]
        for prompt, worths in enumerate(earned):
            places = int(worths.argmax()), int(worths.argmin())
            if worths[places[0]] == worths[places[1]]:
                continue
            written = [tokenizer.decode(said[prompt * self.samples + place]) for place in places]
            sides = [Completion([{"role": "assistant", "content": text}], rank=rank, rating=float(worths[place]), model=self.policy.reference)
                     for rank, (text, place) in enumerate(zip(written, places, strict=True), start=1)]  # fmt: skip
            preference = Preference(_before_answer(asked[ids[prompt]]), sides)
            meta = json.dumps({"about": ids[prompt], "preference": preference.to_meta()}, ensure_ascii=False)
            name = f"own/{self.name}/{first + prompt:06d}"
            yield conversation(name, self.policy.reference, preference.messages(), meta), float(worths[places[0]] - worths[places[1]])


def _before_answer(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """What is said before the first answer."""
    return messages[: next((i for i, one in enumerate(messages) if one["role"] == "assistant"), len(messages))]
