"""`Episodes`: rows of what an agent did in copies of an environment, with what each action was worth.

    round r    `time` steps of every copy, by the agent as it is then; it is learnt from in `epochs` epochs
    row i      the stretch of copy i mod copies
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from bloomery.core.rng import numpy_rng
from bloomery.data.batch import Batch, Samples
from bloomery.data.source import Rows, Source, Span, Supply
from bloomery.models.agent import Agent
from bloomery.nn.layout import SequenceLayout
from bloomery.train.credit import GAE, gae, whitened
from bloomery.train.play.environment import Environment
from bloomery.train.state import TrainState


class Episodes(Source):
    """What the live agent does. Rounds come one after the other, since where one ends the next begins; they are asked for in order.

    Args:
        environment: that it acts in.
        state: with the agent as it is.
        credit: how what it earns is shared out among its actions.
        copies: of the environment, and rows of a round.
        time: steps of a row.
        epochs: how often a round is learnt from.
        seed: of how episodes begin, and of what the agent draws.

    Attributes:
        finished: what each episode has earned that is over, in order.
    """

    def __init__(
        self, environment: Environment, state: TrainState, credit: GAE, *, copies: int, time: int, epochs: int, seed: int
    ) -> None:  # fmt: skip
        self.state, self.credit, self.copies, self.epochs, self.seed = state, credit, copies, epochs, seed
        self.time, self.vocab_size = time, environment.n_actions
        self.finished: list[float] = []
        self._world, self._next = environment.open(copies, seed), 0
        self._observed = self._world.begin(np.ones(copies, bool))
        self._earned = np.zeros(copies)
        self._current: Batch

    def batch(self, first_row: int, rows: int) -> Batch:
        number, first = divmod(first_row, self.copies * self.epochs)
        first %= self.copies
        assert first + rows <= self.copies, "a step has rows of one epoch"
        assert number in (self._next - 1, self._next), "rounds are made one after the other"
        if number == self._next:
            self._current, self._next = self._play(number), number + 1
        part, whole = slice(first, first + rows), self._current
        assert whole.samples is not None
        samples = whole.samples[part]
        return Batch(whole.tokens[part], whole.targets[part], whole.loss_weight[part], whole.layout[part], first_row, samples=samples)

    def figures(self, first_row: int, rows: int) -> dict[str, float]:
        """The mean of what the last 20 episodes have earned."""
        return {"return": float(np.mean(self.finished[-20:]))} if self.finished else {}

    def rows(self, first_row: int, rows: int) -> Rows:
        raise NotImplementedError("an agent reads no tokens; ask for a batch")

    def documents(self, first_row: int, rows: int) -> list[Span]:
        """None: there are no documents."""
        return []

    def supply(self, rows: int) -> list[Supply]:
        """None: there is no corpus."""
        return []

    def _play(self, number: int) -> Batch:
        agent, done = self.state.model, _Done()
        assert isinstance(agent, Agent)
        uniform = numpy_rng("episodes", self.seed, number).random((self.time, self.copies))
        for t in range(self.time):
            logits, values = agent.both(_tensor(self._observed)[:, None])
            logprobs = torch.log_softmax(logits[:, 0].double(), -1)
            actions = (logprobs.exp().cumsum(-1).numpy() < uniform[t][:, None]).sum(1).clip(max=self.vocab_size - 1)
            moment = self._world.act(actions)
            over = moment.ended | moment.cut
            after = agent.both(_tensor(moment.observed)[:, None])[1][:, 0].numpy()
            done.note(self._observed, actions, logprobs.numpy()[np.arange(self.copies), actions], values[:, 0].numpy(),
                      np.where(moment.ended, 0.0, after), moment.rewards, ~over)  # fmt: skip
            self._earned += moment.rewards
            self.finished += self._earned[over].tolist()
            self._earned[over] = 0.0
            self._observed = self._world.begin(over) if over.any() else moment.observed
        return done.batch(self.credit)


@dataclass(eq=False)
class _Done:
    """What was done, step by step: observations, actions, log μ, V before, V after, rewards, and whether it went on."""

    columns: list[list[np.ndarray]] = field(default_factory=lambda: [[] for _ in range(7)])

    def note(self, *columns: Float[np.ndarray, "copies ..."]) -> None:
        for column, value in zip(self.columns, columns, strict=True):
            column.append(value)

    def batch(self, credit: GAE) -> Batch:
        observed, actions, logprobs, values, after, rewards, goes_on = (np.stack(column, 1) for column in self.columns)
        goes_on[:, -1] = False  # within the row
        advantages = gae(rewards, values, after, goes_on, credit.discount, credit.trace)
        returns = advantages + values
        if credit.advantages == "whitened":
            advantages = whitened(advantages, np.ones(advantages.shape, bool))
        copies, time = actions.shape
        number = torch.arange(copies)
        samples = Samples(
            _tensor(logprobs), number, torch.zeros_like(number), advantages=_tensor(advantages), values=_tensor(values),
            returns=_tensor(returns),
        )  # fmt: skip
        targets = torch.from_numpy(actions.astype(np.int64))
        return Batch(_tensor(observed), targets, torch.ones(copies, time), SequenceLayout.rows(copies, time), samples=samples)


def returns_of(agent: Agent, environment: Environment, episodes: int, seed: int) -> list[float]:
    """What whole episodes earn, all of them side by side, in which the agent always takes the action that it finds best."""
    world, going = environment.open(episodes, seed), np.ones(episodes, bool)
    observed, earned = world.begin(going), np.zeros(episodes)
    while going.any():
        moment = world.act(agent.both(_tensor(observed)[:, None])[0][:, 0].argmax(-1).numpy())
        earned += moment.rewards * going
        going &= ~(moment.ended | moment.cut)
        observed = world.begin(moment.ended | moment.cut)
    return earned.tolist()


def _tensor(numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(numbers, np.float32))
