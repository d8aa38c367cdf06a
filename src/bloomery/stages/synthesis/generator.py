"""`Generator`: who writes: a model of ours, or one behind an endpoint; and can be gone on with after any interruption."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import BloomeryError, DataError
from bloomery.core.units import Tokens
from bloomery.generate import Decoding, Random, RefusedError, Rule, Sampler, Writer, ask
from bloomery.generate.endpoint import check_address
from bloomery.models import causal
from bloomery.stages.stage import Inputs, RunContext
from bloomery.stages.trained import Trained, opened, verified
from bloomery.store import Journal
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer

AT_ONCE = 64  # prompts that a model of ours reads together: always the same ones, so that no interruption changes a bit
QUESTIONS = 8  # under way at a time at an endpoint, unless the context says otherwise


@dataclass(frozen=True)
class Task:
    """A prompt: its number, the conversation to go on with, and the seed of what is drawn."""

    number: int
    messages: Sequence[Mapping[str, str]]
    seed: int


@dataclass(frozen=True)
class Said:
    """What came of a task.

    Attributes:
        number: of the task.
        text: what was said; empty where there is a fault.
        fault: why nothing was.
        attempts: how often it was asked for.
        tokens: that it cost, as far as is known.
    """

    number: int
    text: str
    fault: str = ""
    attempts: int = 1
    tokens: int = 0


class Generator(Config):
    """Who answers prompts. Its fields, and nothing of how it is reached, count in the keys of what it writes."""

    @property
    @abstractmethod
    def reference(self) -> str:
        """Which model it is, for the record."""

    @abstractmethod
    def write(self, tasks: Sequence[Task], done: Collection[int], context: RunContext, inputs: Inputs) -> Iterator[list[Said]]:
        """Answers the tasks that are not done, and gives what came of some of them as soon as it is there.

        Args:
            tasks: all of them, done or not, in order of their numbers.
            done: numbers of those that need no answer.
            context: device, and access to endpoints.
            inputs: the artifacts of the stages among the fields.
        """


class Ours(Generator):
    """A model that was trained here. What it writes for a task follows from its weights, the task and the sampler, whatever else is written.

    Example:
        >>> Ours(model=chat, sampler=Random(temperature=0.8))
    """

    model: Trained
    """The training that left it."""
    sampler: Sampler = Random()
    """How tokens are picked."""
    rules: tuple[Rule, ...] = ()
    """What changes how likely they are, or holds answers to a list, a regex or a JSON schema."""
    max_new_tokens: Tokens = 64
    """Longest answer."""
    template: ChatTemplate | None = ChatTemplate()
    """Lays conversations out as the model has learnt them; None puts contents one below the other, for a base, and ends at a blank line."""

    @property
    def reference(self) -> str:
        return self.model.reference

    def write(self, tasks: Sequence[Task], done: Collection[int], context: RunContext, inputs: Inputs) -> Iterator[list[Said]]:
        trained = verified(inputs[self.model])
        model = causal(opened(trained, context.device))
        tokenizer = Tokenizer.load(trained.path / "tokenizer/tokenizer.json")
        writer = Writer(model, tokenizer, Decoding(by=self.sampler, rules=self.rules, max_new_tokens=self.max_new_tokens))
        for start in range(0, len(tasks), AT_ONCE):
            group = tasks[start : start + AT_ONCE]
            if all(task.number in done for task in group):
                continue
            prompts = [self._prompt(task, tokenizer) for task in group]
            fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < model.config.max_seq_len]
            answers = writer.write([prompts[i] for i in fitting], [group[i].seed for i in fitting], batch_rows=AT_ONCE)
            said = {i: Said(group[i].number, self._text(one.tokens, tokenizer), tokens=len(prompts[i]) + len(one.tokens))
                    for i, one in zip(fitting, answers, strict=True)}  # fmt: skip
            long = "the prompt is longer than the model reads"
            every = [said.get(i, Said(task.number, "", long)) for i, task in enumerate(group)]
            yield [one for one in every if one.number not in done]

    def _prompt(self, task: Task, tokenizer: Tokenizer) -> list[int]:
        if self.template is not None:
            return self.template.render(task.messages, tokenizer, add_generation_prompt=True).ids
        return [tokenizer.begin, *tokenizer.encode("\n\n".join(message["content"] for message in task.messages) + "\n\n")]

    def _text(self, ids: Sequence[int], tokenizer: Tokenizer) -> str:
        text = tokenizer.decode(list(ids))
        return text if self.template is not None else text.strip().partition("\n\n")[0]


class Endpoint(Generator):
    """A model behind an OpenAI-compatible endpoint. Keys come from a file or the environment of the command line, and count nowhere.

    Example:
        >>> Endpoint(url="http://localhost:8000/v1", model="qwen3-8b", temperature=0.7)
    """

    url: str
    """Of the endpoint, up to "/v1"; "/chat/completions" comes behind it."""
    model: str = Field(min_length=1)
    """What the server calls it."""
    temperature: float = Field(default=1.0, ge=0)
    """Divides the logits."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """The share of probability that is kept."""
    max_new_tokens: Tokens = 512
    """Longest answer."""

    def check(self) -> None:
        check_address(self.url, None)

    @property
    def reference(self) -> str:
        return f"{self.model} at {self.url}"

    def write(self, tasks: Sequence[Task], done: Collection[int], context: RunContext, inputs: Inputs) -> Iterator[list[Said]]:
        """As in every generator; when the server can no longer be asked, what is under way is waited for, and given, before that is told."""
        missing = iter([task for task in tasks if task.number not in done])
        trouble: BloomeryError | None = None
        at_once = context.access.at_once or QUESTIONS
        with ThreadPoolExecutor(at_once) as pool:
            under_way: set[Future[Said]] = set()
            while True:
                while trouble is None and len(under_way) < at_once and (task := next(missing, None)) is not None:
                    under_way.add(pool.submit(self._one, task, context))
                if not under_way:
                    break
                ready, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                said = []
                for future in ready:
                    try:
                        said.append(future.result())
                    except BloomeryError as error:
                        trouble = trouble or error
                yield said
        if trouble is not None:
            raise trouble

    def _one(self, task: Task, context: RunContext) -> Said:
        body: dict[str, Any] = {
            "model": self.model, "messages": [dict(message) for message in task.messages], "temperature": self.temperature, "top_p": self.top_p,
            "max_tokens": self.max_new_tokens, "seed": task.seed % (1 << 31), "stream": False,
        }  # fmt: skip
        try:
            reply = ask(self.url, body, context.access, task.seed)
        except RefusedError as error:
            return Said(task.number, "", str(error), error.attempts)
        fault = "cut off at its longest" if reply.finished == "length" else ""
        return Said(task.number, reply.text, fault, reply.attempts, reply.tokens)


def written(generator: Generator, tasks: Sequence[Task], journal: Journal, context: RunContext, inputs: Inputs, name: str) -> list[Said]:
    """What a generator says to all tasks, in their order; what the journal has is not asked again, and what is said is there before it counts.

    Raises:
        DataError: it could say nothing at all.
    """
    done = {line["number"] for line in journal}
    faults = again = 0
    if done:
        context.say(f"{name}: {len(done)} of {len(tasks)} are there already")
    for said in generator.write(tasks, done, context, inputs):
        journal.append(vars(one) for one in said)
        done |= {one.number for one in said}
        faults, again = faults + sum(bool(one.fault) for one in said), again + sum(one.attempts - 1 for one in said)
        context.progress(f"{name}: {len(done)} of {len(tasks)} written{f', {faults} refused' if faults else ''}"
                         f"{f', {again} asked again' if again else ''}")  # fmt: skip
    everything = [Said(**line) for line in journal.settle("number")]
    if everything and all(one.fault for one in everything):
        raise DataError(f"{generator.reference} wrote nothing: {everything[0].fault}; delete {journal.path} once that is mended")
    return everything
