"""`RemoteEngine`: servers that write a policy's texts, and are given its weights before each round.

    renew    the policy's weights, adapters taken in and heads for tasks left out, go to every server; their digest names them
    ask      one request a text, of token ids and with a seed of its own, for token ids and what they were drawn with
    look     each server still has those weights; if not (it was started anew), it gets them, and is asked once more

Texts come as ids, since they can be spelt in several ways. What was drawn with is told by the server, which need not round as the training
does: the loss weighs by it, and the first texts of each round are read once more by the policy itself (`Rollouts`), so that a server with other
weights, or with other rules than it was told, is noticed before anything is learnt from it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ClassVar

from annotated_types import Gt
from pydantic import Field

from bloomery.core.errors import BloomeryError, ConfigError, DataError, ResourceError
from bloomery.core.rng import derive_seed
from bloomery.generate import Access, RefusedError, Request, again
from bloomery.train.engines.engine import Reach, RolloutEngine, Text, TextWriter, Wanted
from bloomery.train.state import TrainState

AT_ONCE = 64  # texts under way at a time, unless the context says otherwise
SEEDS = 1 << 31  # of requests are below it


class RemoteEngine(RolloutEngine):
    """A kind of server that is asked as OpenAI's API has it, but for how it takes weights. Its addresses are said by --engine-url."""

    exact: ClassVar[bool] = False

    model: str = Field(default="policy", min_length=1)
    """What the server calls the model."""
    apart: Annotated[float, Gt(0)] = 0.1
    """How far |log μ − log π| may be on the mean, in nats per token, between what the server says of its texts and what the policy does. Of
    float32 beside float32 it is some 1e-6, of bfloat16 some 1e-2."""

    @abstractmethod
    def lay(self, state: TrainState, reach: Reach) -> str:
        """Writes the policy's weights as these servers read them, and returns a name that no other weights have."""

    @abstractmethod
    def renew(self, url: str, version: str, reach: Reach) -> None:
        """Has a server take the weights that were laid last, under their name; raises `RefusedError` where it does not."""

    @abstractmethod
    def version(self, url: str, access: Access) -> str | None:
        """The name of the weights that a server has; None where it cannot say."""

    @abstractmethod
    def request(self, prompt: Sequence[int], most: int, seed: int, wanted: Wanted) -> dict[str, Any]:
        """What is asked for one of some texts.

        Args:
            prompt: its own.
            most: its tokens, at most.
            seed: its own.
            wanted: all of them.
        """

    def open(self, state: TrainState, reach: Reach) -> TextWriter:
        if not reach.urls:
            raise ConfigError(f"Train.rollout.engine={self.kind()}(…) has servers write, and none is named; give --engine-url http://HOST:PORT/v1")
        return _Asking(self, state, reach)

    def check_apart(self, apart: float) -> None:
        if not apart <= self.apart:  # nor NaN
            raise DataError(f"Train.rollout.engine says of its texts what is {apart:.3g} nats a token from what the policy says, and "
                                f"apart={self.apart:g}: it has other weights, draws by other rules, or computes in too few bits; look at the "
                                "server's log, or raise apart if that is how it is to be")  # fmt: skip


class _Asking(TextWriter):
    """The servers of a training."""

    def __init__(self, engine: RemoteEngine, state: TrainState, reach: Reach) -> None:
        self._engine, self._state, self._reach = engine, state, reach
        self._laid: tuple[tuple[int, int], str] | None = None  # step and rows skipped, of which the weights are a function; and their name

    def write(self, wanted: Wanted) -> list[Text]:
        version = self._renewed()
        texts = self._asked(wanted)
        stale = [url for url in self._reach.urls if self._version(url) not in (version, None)]
        if stale:
            self._reach.say(f"{', '.join(stale)} no longer has the policy's weights; they are sent once more")
            self._lay()
            self._send(stale, version)
            texts = self._asked(wanted)
            if lost := [url for url in stale if self._version(url) not in (version, None)]:
                raise ResourceError(f"--engine-url {lost[0]} has lost the policy's weights twice within a round; see why it starts anew, or "
                                    "who else sends it weights")  # fmt: skip
        return texts

    def _renewed(self) -> str:
        """Has all servers take the policy's weights, unless they have them; and what these are called. The first rank sees to it, as each has
        the whole policy."""
        at, mesh = (self._state.step, self._state.known.skipped_rows), self._state.holding.mesh
        if self._laid is not None and self._laid[0] == at:
            return self._laid[1]
        version, trouble = "", ""
        if mesh.leads:
            try:
                version = self._lay()
                self._send([url for url in self._reach.urls if self._version(url) != version], version)
            except BloomeryError as error:
                if mesh.alone:
                    raise
                trouble = str(error)
        if trouble := mesh.world.tell(trouble, 0):
            raise ResourceError(trouble)
        version = mesh.world.tell(version, 0)
        self._laid = at, version
        return version

    def _lay(self) -> str:
        return self._engine.lay(self._state, self._reach)

    def _send(self, urls: Sequence[str], version: str) -> None:
        def send(url: str) -> None:
            try:
                self._engine.renew(url, version, self._reach)
            except RefusedError as error:
                raise ConfigError(f"--engine-url {url} does not take the policy's weights: {error}") from None

        with ThreadPoolExecutor(len(self._reach.urls)) as pool:
            list(pool.map(send, urls))

    def _version(self, url: str) -> str | None:
        return self._engine.version(url, self._reach.access)

    def _asked(self, wanted: Wanted) -> list[Text]:
        """The texts, by the servers in turn; all of a prompt by the same one, which then reads it once."""
        urls, places = self._reach.urls, {prompt: place for place, prompt in enumerate(dict.fromkeys(map(tuple, wanted.prompts)))}
        longest = self._state.model.config.max_seq_len

        def text(i: int) -> Text:
            prompt, seed = wanted.prompts[i], derive_seed(wanted.seed, "rollout", wanted.numbers[i]) % SEEDS
            most, url = min(wanted.limit(i), longest - len(prompt)), urls[places[tuple(prompt)] % len(urls)]
            body = {"model": self._engine.model, "return_token_ids": True} | self._engine.request(prompt, most, seed, wanted)
            request = Request("POST", url, "/completions", body)
            try:
                return again(request, lambda plain: text_of(plain, most, wanted), self._reach.access, seed, address="--engine-url")[0]
            except RefusedError as error:
                raise ConfigError(f"--engine-url {url} writes nothing to a prompt of {len(prompt)} tokens: {error}") from None
            except DataError as error:
                raise DataError(f"--engine-url {url} {error}") from None

        with ThreadPoolExecutor(self._reach.access.at_once or AT_ONCE) as pool:
            return list(pool.map(text, range(len(wanted.prompts))))


def text_of(plain: Any, most: int, wanted: Wanted) -> Text:
    """The text in an answer to `POST /completions`, once it has been looked at.

    Args:
        plain: the answer.
        most: tokens that were asked for, at most.
        wanted: what they may be.

    Raises:
        DataError: it is none that can be learnt from.
    """
    choice = plain["choices"][0]
    tokens, logprobs = choice.get("token_ids"), choice["logprobs"]["token_logprobs"]
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise DataError("gives no token_ids, by which texts are learnt from; take a server that knows return_token_ids")
    if len(tokens) != len(logprobs) or not all(isinstance(one, int | float) and math.isfinite(one) and one < 1e-3 for one in logprobs):
        raise DataError(f"gives {len(tokens)} tokens, and not the logarithm of a probability with each of them")
    if not 0 < len(tokens) <= most or not all(0 <= token < wanted.vocab_size for token in tokens):
        raise DataError(f"gives {len(tokens)} tokens, and was asked for 1 to {most} with ids below {wanted.vocab_size}")
    if wanted.ends in tokens[:-1] or (tokens[-1] != wanted.ends and len(tokens) < most):
        raise DataError(f"gives a text of {len(tokens)} tokens of at most {most} that does not end where {wanted.ends}, which ends texts, is")
    return Text(tokens, [min(0.0, float(one)) for one in logprobs])
