"""`Policies`: what policies earn on prompts that none has learnt from, and how far they went for it from where they began, seed by seed.

    policies.txt      the table
    results.json      every figure of every run
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Annotated, Any

from annotated_types import Gt
from pydantic import Field

from bloomery.core.units import Tokens
from bloomery.data import Each, Packed, TokenShards
from bloomery.optim import AdamW, Batches
from bloomery.stages.look import text_page
from bloomery.stages.paired import Way
from bloomery.stages.sheet import check_names, spread
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.trained import Trained, opened, tokenizer_of
from bloomery.store import Workspace, write_json, write_text
from bloomery.train import TrainState
from bloomery.train.beside import Beside
from bloomery.train.credit import Reinforce
from bloomery.train.earnings import Earns
from bloomery.train.rewards import Reward
from bloomery.train.rollouts import Rollout, Rollouts


class Policies(Stage):
    """Has each policy write to the same held-out prompts, by the same random numbers, and has rewards judge the texts."""

    title: str
    """At the head of the table."""
    before: Trained
    """What all of them were: what their divergence is measured from, and what their gain is compared with."""
    ways: tuple[Way, ...] = Field(min_length=1)
    """What is compared, each in several seeds."""
    prompts: Tokenize
    """What none has learnt from: conversations, or texts, of which `prompt_tokens` are the prompt."""
    rewards: tuple[Reward, ...] = Field(min_length=1)
    """What judges the texts, the one that is wanted first."""
    max_seq_len: Tokens
    """Tokens in a row."""
    prompt_tokens: Tokens | None = None
    """Tokens of a document that are its prompt, where its encoding says of none that they are only read."""
    max_new_tokens: Tokens
    """Longest text."""
    texts: Annotated[int, Gt(0)] = 512
    """Of each policy, one to a prompt."""

    def check(self) -> None:
        check_names(self, "ways", self.ways)

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        shards = TokenShards.open(inputs[self.prompts])
        tokenizer = tokenizer_of(inputs[self.before])
        earns = Earns(rewards=self.rewards, credit=Reinforce(), reference=self.before)
        asked = {one.address: opened(inputs[one], context.device) for one in earns.frozen() if isinstance(one, Trained)}

        def figures(trained: Trained) -> dict[str, float]:
            model = opened(inputs[trained], context.device)
            state = TrainState(model, AdamW().build(model), beside=Beside(asked))
            source = Rollouts(
                Packed(shards, Each(), time=self.max_seq_len, seed=0),
                Rollout(prompt_tokens=self.prompt_tokens, max_new_tokens=self.max_new_tokens, earns=earns), state,
                Batches(self.texts), ends=tokenizer.end, pad=tokenizer.pad, vocab_size=tokenizer.vocab_size, seed=0,
                folder=workspace.path / "rollouts", tokenizer=tokenizer,
            )  # fmt: skip
            found = source.figures(0, self.texts)
            context.progress(f"{self.reference}: {trained.name}: {found['reward/' + self.rewards[0].called]:.3f}")
            return found

        said = {run.name: inputs[run].manifest.summary.get("over_optimised") for way in self.ways for run in way.runs}
        noticed = [f"{name}, {told}" for name, told in said.items() if told]
        measured = {way.name: [figures(run) for run in way.runs] for way in self.ways}
        page = Page(self.title, self.rewards, figures(self.before), measured, noticed)
        write_text(workspace.path / "policies.txt", page.text())
        write_json(workspace.path / "results.json", {"before": page.before, **page.ways})
        context.say(page.text())
        wanted = f"reward/{self.rewards[0].called}"
        return {f"{name}: {what}": round(mean(run[what] for run in runs), 5) for name, runs in page.ways.items() for what in (wanted, "kl")}


@dataclass(frozen=True)
class Page:
    """The table.

    Attributes:
        title: at its head.
        rewards: the one that is wanted first.
        before: figures of what all policies were.
        ways: those of each seed.
        noticed: what watches of rewards have said of their trainings.
    """

    title: str
    rewards: Sequence[Reward]
    before: dict[str, float]
    ways: dict[str, list[dict[str, float]]]
    noticed: Sequence[str] = ()

    def rows(self) -> list[tuple[str, ...]]:
        """The table, its head first."""
        names = [one.called for one in self.rewards]
        wanted = f"reward/{names[0]}"

        def cells(runs: Sequence[dict[str, float]]) -> tuple[str, ...]:
            columns = [*(f"reward/{name}" for name in names), "kl", "length", "ended"]
            return tuple(f"{mean(run[c] for run in runs):.3f} ± {spread([run[c] for run in runs]):.3f}" for c in columns)

        rows: list[tuple[str, ...]] = [("way", *names, "nats from before", "tokens", "ended", "points", "of each seed")]
        rows.append(("before", *cells([self.before]), "", ""))
        for name, runs in self.ways.items():
            gains = [100 * (run[wanted] - self.before[wanted]) for run in runs]
            rows.append((name, *cells(runs), f"{mean(gains):+.1f}", ", ".join(f"{gain:+.1f}" for gain in gains)))
        return rows

    def text(self) -> str:
        """The page in plain text."""
        seeds = max(map(len, self.ways.values()))
        told = [f"points: of {self.rewards[0].called}, more than before; ± is the standard deviation over {seeds} seeds",
                "nats from before: log π − log π_before of each text, on the mean over texts drawn from the policy", *self.noticed]  # fmt: skip
        return text_page(self.title, self.rows(), range(1, len(self.rewards) + 6), told)
