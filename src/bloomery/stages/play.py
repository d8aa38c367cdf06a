"""`Play`: an agent learns to act in an environment, by the losses and the loop that policies of texts learn by.

    model/             the agent
    metrics.jsonl      what each step did, and what its last episodes earned
"""

from __future__ import annotations

import json
from statistics import mean
from typing import Annotated, Any

from annotated_types import Ge, Gt

from bloomery.core.units import human_count
from bloomery.models import write_model
from bloomery.models.agent import AgentConfig
from bloomery.objectives import Objective, PolicyGradient, ValueLoss
from bloomery.optim import AdamW, OptimizerConfig, Schedule, WarmupCosine
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Workspace, write_text
from bloomery.train import Course, Manner, TrainState, train
from bloomery.train.credit import GAE
from bloomery.train.play import Environment, Episodes, returns_of

SHOWN = 10  # times


class Play(Stage):
    """PPO with settings for CartPole. It takes a minute, so that an interrupted run begins anew.

    Source: Schulman et al. (2017), PPO, arXiv 1707.06347; settings: Raffin (2020), RL Baselines3 Zoo, for CartPole-v1; departure: rates fall
    along a cosine, and ε stays.
    """

    environment: Environment
    """`CartPole()`, or `Gymnasium(id=…)`."""
    moments: Annotated[int, Gt(0)] = 195_000
    """Steps in the environment, of all copies together, rounded down to whole rounds."""
    copies: Annotated[int, Ge(1)] = 8
    """Of the environment, side by side."""
    time: Annotated[int, Ge(1)] = 32
    """Steps of each copy in a round."""
    epochs: Annotated[int, Ge(1)] = 20
    """How often a round is learnt from, each time as a whole."""
    width: Annotated[int, Ge(1)] = 64
    """Of the agent's hidden layers."""
    credit: GAE = GAE(discount=0.98, trace=0.8)
    """How what is earned is shared out among actions."""
    objective: Objective = PolicyGradient() + 1.0 * ValueLoss(clip=None)
    """The loss."""
    optimizer: OptimizerConfig = AdamW(learning_rate=1e-3, weight_decay=0.0)
    """How gradients become updates."""
    schedule: Schedule = WarmupCosine(warmup=0)
    """The course of the learning rate."""
    clip_norm: Annotated[float, Gt(0)] = 0.5
    """Largest global norm of the gradient."""
    episodes: Annotated[int, Gt(0)] = 100
    """That the trained agent is measured on, taking the action that it finds best."""
    seed: int = 0
    """Of initial weights, episodes and actions."""

    @property
    def steps(self) -> int:
        """Updates."""
        return self.moments // (self.copies * self.time) * self.epochs

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        config = AgentConfig(n_observed=self.environment.n_observed, n_actions=self.environment.n_actions, d_model=self.width)
        agent = config.build(self.seed)
        state = TrainState(agent, self.optimizer.build(agent))
        source = Episodes(
            self.environment, state, self.credit, copies=self.copies, time=self.time, epochs=self.epochs, seed=self.seed,
        )  # fmt: skip
        course = Course(
            objective=self.objective, schedule=self.schedule, steps=self.steps, rows=self.copies, clip_norm=self.clip_norm, seed=self.seed,
        )  # fmt: skip
        lines = []
        for report in train(state, source, course, Manner(micro_batch=self.copies, compiled=False, device="cpu")):
            lines.append({"step": report.step, "loss": report.loss, "grad_norm": report.grad_norm, **report.metrics})
            if report.step % max(1, self.steps // SHOWN) == 0:
                moments = human_count(report.step // self.epochs * self.copies * self.time)
                context.progress(f"{self.reference}: {moments} moments, return {report.metrics.get('return', 0.0):.1f}")
        write_text(workspace.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        write_model(workspace.path / "model", config, agent)
        returns = returns_of(agent.eval(), self.environment, self.episodes, self.seed + 1)
        context.say(f"{self.reference}: {mean(returns):.1f} on the mean of {self.episodes} episodes, at least {min(returns):.0f}")
        return {"return": mean(returns), "least": min(returns), "moments": self.steps // self.epochs * self.copies * self.time}
