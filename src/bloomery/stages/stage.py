"""`Stage`: a step of a recipe, whose fields are its identity; and the `RunContext` it runs in, which is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field
from rich.console import Console
from rich.text import Text

from bloomery.core.config import Config, flatten, to_plain
from bloomery.core.errors import BloomeryError, StoppedError
from bloomery.core.identity import content_key
from bloomery.core.units import human_seconds
from bloomery.generate import Access
from bloomery.mesh import ALONE, Mesh
from bloomery.store import Artifact, Store, Workspace
from bloomery.store.files import os_errors
from bloomery.text.engine import Executor, Processes, Ray
from bloomery.train.offload import Offloaded, check_together
from bloomery.train.recompute import Recompute

TrackerName = Literal["tensorboard", "aim", "trackio", "wandb"]

MADE, MISSING = "made", "missing"  # what the leading rank tells the others of an artifact
LOOK_AGAIN_S = 0.2  # how often a rank looks whether the leading one has made what it waits for


class Stage(Config):
    """One step from inputs to an artifact.

    Everything that decides the result is a field: literals, configs, and the stages whose artifacts it reads. Subclasses write `work`.
    What a stage leaves in its workspace must not depend on how often it was interrupted.
    """

    takes_all_ranks: ClassVar[bool] = False
    """Whether all ranks of a layout do its work together; of any other stage the leading rank does it all."""

    name: str = Field(default="main", pattern=r"^[a-z0-9][a-z0-9_]*$")
    """What distinguishes it from others of its kind in a recipe; part of the folder's name."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        """Does the work in `workspace.path`, going on from what an interrupted run left there.

        Args:
            context: device, progress, tracker: things that do not change the result.
            inputs: the finished artifacts of the stages among the fields.
            workspace: the folder to fill.

        Returns:
            Figures of the result, for the manifest's summary.
        """
        raise NotImplementedError

    def estimate(self) -> str:
        """One line on what making it will cost (tokens, FLOPs, memory), known from the fields alone; empty where nothing can be said."""
        return ""

    def preview(self, store: Store) -> list[str]:
        """What else can be told before it is made, a line each, from the inputs that are there already; touches nothing."""
        return []

    @cached_property
    def key(self) -> str:
        """The content key over kind, contract, non-default fields and the keys of the inputs."""
        return content_key(self._own_fields())

    @cached_property
    def reference(self) -> str:
        """`<stage>/<name>-<key>`."""
        return f"{self.kind()}/{self.name}-{self.key}"

    def identity(self, path: str = "") -> dict[str, Any]:
        return {"stage": self.kind(), "name": self.name, "key": self.key}

    def _own_fields(self) -> dict[str, Any]:
        return super().identity()

    def settings(self) -> dict[str, Any]:
        """The fields that make up the identity, on one level: {"optimizer.learning_rate": 0.001, …}."""
        return flatten(self._own_fields())

    def inputs(self) -> dict[str, Stage]:
        """The stages among the fields, by field path ("corpus", "sources[1]", "init.model")."""
        return dict(_stages_in(self))

    def run(self, context: RunContext) -> Artifact:
        """The artifact: found if it is finished; else made, inputs first, under a lease.

        Another process that makes the same artifact is waited for, not raced. The ranks of a layout go through a recipe together: the
        leading one makes what is missing, and the others join it where a stage takes all ranks.
        """
        store, mesh = context.store, context.mesh
        made = store.find(self.reference) if mesh.leads else None
        if mesh.world.tell(MADE if made else MISSING, 0) == MADE:
            return made or self._waited_for(store)
        inputs = Inputs({stage.reference: stage.run(context) for stage in self.inputs().values()})
        if not mesh.leads:
            if self.takes_all_ranks and mesh.world.tell("", 0) == MISSING:
                self.work(context, inputs, store.workspace(self.reference))
            return self._waited_for(store)
        with store.lease(self.reference, on_wait=lambda: context.say(f"{self.reference}: another process is making it; waiting")):
            made = store.find(self.reference)
            if self.takes_all_ranks:
                mesh.world.tell(MADE if made else MISSING, 0)
            if made is not None:
                return made
            context.say(f"{self.reference}: {'going on with' if store.has_partial(self.reference) else 'starting'}")
            started = time.perf_counter()
            workspace = store.workspace(self.reference)
            try:
                with os_errors(workspace.path):
                    summary = self.work(context, inputs, workspace)
            except BaseException as error:
                workspace.leave()
                if isinstance(error, Exception) and not isinstance(error, StoppedError):
                    store.fail(self.reference, str(error) if isinstance(error, BloomeryError) else f"{type(error).__name__}: {error}")
                raise
            artifact = workspace.finish(
                stage=self.kind(), name=self.name, key=self.key, fields=to_plain(self._own_fields()),
                inputs={path: stage.reference for path, stage in self.inputs().items()}, summary=summary,
            )
            context.say(f"{self.reference}: done in {human_seconds(time.perf_counter() - started)}")
            return artifact


    def _waited_for(self, store: Store) -> Artifact:
        """The artifact, once the leading rank has made it."""
        while (artifact := store.find(self.reference)) is None:
            time.sleep(LOOK_AGAIN_S)
        return artifact


@dataclass(frozen=True)
class Inputs:
    """The finished artifacts of a stage's inputs, looked up by the stage value itself: `inputs[self.corpus]`."""

    _artifacts: dict[str, Artifact]

    def __getitem__(self, stage: Stage) -> Artifact:
        return self._artifacts[stage.reference]


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Where and how a run happens: nothing in it may change the result, and none of it is hashed.

    Attributes:
        store: where artifacts are found and put.
        device: "cpu" or "cuda"; what to compute on.
        micro_batch: rows per forward pass; None lets each stage choose.
        compile: "auto" compiles when the planned steps repay it; or "always", "never".
        quiet: print nothing but errors.
        checkpoint_every_s: seconds between the checkpoints of long stages.
        keep_every: steps of a training after each of which a checkpoint is made and kept for good; None keeps none.
        progress_every_s: seconds between lines of progress.
        workers: processes that work on documents; 1 does it all in this one.
        recompute: which activations are computed again in the backward pass.
        offload: what waits in the host's memory while the device does not need it: "activations", "optimizer".
        mesh: the ranks that train together; the only one unless a launcher has started more.
        cluster: address of a Ray cluster that works on documents instead ("auto", "ray://host:port", "local").
        trackers: where figures of trainings go besides their own JSON lines.
        access: how models behind endpoints are reached, and their key.
        engines: addresses of the servers that write the texts of policies, where a rollout has them written elsewhere.
    """

    store: Store
    device: str = "cpu"
    micro_batch: int | None = None
    compile: Literal["auto", "always", "never"] = "auto"
    quiet: bool = False
    checkpoint_every_s: float = 20.0
    keep_every: int | None = None
    progress_every_s: float = 5.0
    workers: int = 1
    cluster: str | None = None
    mesh: Mesh = ALONE
    recompute: Recompute = field(default_factory=Recompute)
    offload: frozenset[Offloaded] = frozenset()
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    access: Access = field(default_factory=Access)
    engines: tuple[str, ...] = ()
    _last_progress: list[float] = field(default_factory=lambda: [time.monotonic()], repr=False)

    def __post_init__(self) -> None:
        check_together(self.offload, self.recompute)

    def executor(self) -> Executor:
        """Who works on documents."""
        return Ray(self.cluster) if self.cluster else Processes(self.workers)

    def say(self, line: str) -> None:
        """One line about what goes on."""
        if not self.quiet:
            print(line, flush=True)

    def show(self, text: Text) -> None:
        """A text in colours, where they can be seen."""
        if not self.quiet:
            Console(highlight=False).print(text, soft_wrap=True)

    def progress(self, line: str) -> None:
        """As `say`, but at most one line in `progress_every_s` seconds: to be called as often as you like."""
        if time.monotonic() - self._last_progress[0] >= self.progress_every_s:
            self._last_progress[0] = time.monotonic()
            self.say(line)


def _stages_in(value: Any, path: str = "") -> Iterator[tuple[str, Stage]]:
    if isinstance(value, Stage) and path:
        yield path, value
    elif isinstance(value, Config):
        for name in type(value).model_fields:
            yield from _stages_in(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, list | tuple):
        for i, child in enumerate(value):
            yield from _stages_in(child, f"{path}[{i}]")
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from _stages_in(child, f"{path}[{name}]")
