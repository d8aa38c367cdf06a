"""`Speakers`: models that the pages ask, each behind OpenAI's API as `bloomery serve` has it; loaded when they are asked, let go of when not.

    POST /model/STAGE/ARTIFACT/v1/chat/completions    and what else `Served` answers below /v1/, but for what is only looked at
    … ?draft=Ngram, ?draft=STAGE/ARTIFACT             the same, with guesses of n-grams or of a smaller model
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from bloomery.core.errors import BloomeryError
from bloomery.core.units import human_bytes
from bloomery.generate import Draft, Drafter, Ngram
from bloomery.stages.alignment.asked import Asked
from bloomery.stages.trained import tokenizer_of, verified
from bloomery.stages.writing import Takes, longest_of, takes, writing
from bloomery.store import Artifact, Store
from bloomery.train.memory import SPARE, free_bytes
from bloomery.web.admission import Admission, RefusedError
from bloomery.web.replies import failure
from bloomery.web.server import Limits, Served
from bloomery.web.ui.looking import ids_of, inside, weighed
from bloomery.web.ui.strips import finished
from bloomery.web.worker import Worker

KEPT = 2  # models in memory: those that are talked to side by side
IDLE_S = 300.0  # without a question, behind which a model is let go of
WAIT_S = 20.0  # for one that is let go of to end what it is writing
LIMITS = Limits(rows=4, queued=12, beams=8, remembers=4096)
LEAST = Limits(rows=1, queued=0, beams=1, remembers=0)


@dataclass
class Speaker:
    """A model in memory, and when it was last asked."""

    served: Served
    app: Any
    asked_s: float

    @property
    def busy(self) -> bool:
        """Whether it is writing."""
        return bool(self.served.worker.engine.live or self.served.worker.engine.waiting)


class Speakers:
    """The models of a store that are asked, an ASGI application.

    Args:
        store: whose models.
        admission: who may ask.
    """

    def __init__(self, store: Store, admission: Admission) -> None:
        self.store, self.admission = store, admission
        self._known: dict[tuple[str, str], Speaker] = {}  # the one that was asked last is the last
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request to a model, once that is loaded."""
        request = Request(scope, receive)
        stage, artifact, verb = (request.path_params[part] for part in ("stage", "artifact", "verb"))
        answer: Any
        try:
            self.admission.check(request)
            if request.headers.get("content-type", "").partition(";")[0] != "application/json":
                raise RefusedError(415, "send JSON, as application/json")
            answer = (await self.of(f"{stage}/{artifact}", request.query_params.get("draft", ""))).app
        except RefusedError as error:
            answer = JSONResponse(failure(str(error), error.kind, error.code), error.status)
        except BloomeryError as error:
            answer = JSONResponse(failure(str(error), "invalid_request_error"), 400)
        await answer(dict(scope) | {"path": f"/v1/{verb}", "raw_path": f"/v1/{verb}".encode(), "root_path": ""}, receive, send)

    async def of(self, reference: str, draft: str = "") -> Speaker:
        """A model, loaded if it is not.

        Args:
            reference: of its artifact.
            draft: what guesses for it: Ngram, or the reference of a smaller model; nothing if it is empty.

        Raises:
            RefusedError: there is none of that name, or no memory for it.
            BloomeryError: it cannot write, or the other one not guess for it.
        """
        name = reference, draft
        async with self._loading:
            if (speaker := self._known.get(name)) is None:
                artifact = await run_in_threadpool(self._found, reference)
                guesses = await run_in_threadpool(self._found, draft) if draft not in ("", "Ngram") else None
                while len(self._known) >= KEPT:
                    await self._let_go_and_wait()
                await self._make_room(artifact, guesses)
                drafter = Ngram() if draft == "Ngram" else None if guesses is None else Draft(model=guesses.path)
                speaker = await run_in_threadpool(self._loaded, artifact, drafter)
            self._known.pop(name, None)
            self._known[name] = speaker
        speaker.asked_s = time.monotonic()
        asyncio.get_running_loop().call_later(IDLE_S, self.tidy)
        return speaker

    async def at_hand(self, reference: str) -> Speaker:
        """A model, whatever guesses for it."""
        draft = next((draft for known, draft in self._known if known == reference), "")
        return await self.of(reference, draft)

    async def _make_room(self, artifact: Artifact, guesses: Artifact | None) -> None:
        """Lets go of others, the one that was asked longest ago first, until there is memory for a model; raises `RefusedError` where all of
        them are not enough."""
        needed = [(one, await run_in_threadpool(taken, one, LIMITS)) for one in (artifact, guesses) if one is not None]
        total = sum(its.total for _, its in needed)
        while (most := SPARE * free_bytes("cpu")) < total and self._known:
            await self._let_go_and_wait()
        if most < total:
            least = await run_in_threadpool(taken, artifact, LEAST)
            told = "; ".join(f"{one.reference}: {its}" for one, its in needed)
            instead = f"bloomery serve {artifact.reference} --rows 1 --beams 1 --remembers 0 takes {human_bytes(least.total)}"
            raise RefusedError(503, f"there is no memory for that: {told}; {human_bytes(most)} may be taken, {SPARE:.0%} of what is free. End "
                                    f"what else holds memory on this machine, or ask a smaller model; {instead}", "server_error", "memory")

    async def _let_go_and_wait(self) -> None:
        """Lets go of the model that was asked longest ago, once it has written what it is writing."""
        worker = self._let_go(next(iter(self._known)))
        await run_in_threadpool(worker.join, WAIT_S)
        gc.collect()  # a server and its application know each other

    def tidy(self) -> None:
        """Lets go of the models that nobody has asked for a while."""
        now = time.monotonic()
        for name, speaker in list(self._known.items()):
            if now - speaker.asked_s >= IDLE_S and not speaker.busy:
                self._let_go(name)

    @property
    def loaded(self) -> list[str]:
        """Which are in memory."""
        return [reference for reference, _ in self._known]

    def _let_go(self, name: tuple[str, str]) -> Worker:
        worker = self._known.pop(name).served.worker
        worker.close()  # what it is writing comes to its end
        return worker

    def _found(self, reference: str) -> Artifact:
        artifact = finished(self.store, reference)
        if artifact is None or not _writes(artifact):
            raise RefusedError(404, f"the store holds no model {reference[:200]!r}")
        return artifact

    def _loaded(self, artifact: Artifact, draft: Drafter | None) -> Speaker:
        if isinstance(draft, Draft):
            verified(Artifact.open(draft.model))
        served = Served(
            writing(artifact, "cpu"), tokenizer_of(artifact), artifact.reference, limits=LIMITS, local=self.admission.local, draft=draft,
        )  # fmt: skip
        served.worker.start()
        return Speaker(served, served.app(), time.monotonic())

    async def look(self, asked: Any) -> dict[str, Any]:
        """What each layer would say behind the last tokens of a text or conversation, and where the heads of a layer look."""
        model, messages, text, layer = (_field(asked, name) for name in ("model", "messages", "text", "layer"))
        served = (await self.at_hand(str(model))).served
        asked_of = Asked(served.model, served.tokenizer)
        ids = ids_of(asked_of, messages, text)
        return await served.worker.ask(lambda: inside(asked_of, ids, layer if isinstance(layer, int) else None))

    async def weigh(self, asked: Any) -> dict[str, Any]:
        """How likely a model finds each token of some answers to a conversation."""
        model, messages, answers = (_field(asked, name) for name in ("model", "messages", "answers"))
        if not isinstance(answers, list) or not 0 < len(answers) <= 8 or not all(isinstance(one, str) and one for one in answers):
            raise RefusedError(400, "give one to eight answers, texts with something in them")
        served = (await self.at_hand(str(model))).served
        asked_of = Asked(served.model, served.tokenizer)
        return {"answers": await served.worker.ask(lambda: [weighed(asked_of, messages, answer) for answer in answers])}


def models_of(store: Store) -> list[Artifact]:
    """What has left a model and its tokenizer, the newest first."""
    return [one for one in reversed(store.artifacts()) if _writes(one)]


def guesses_for(artifact: Artifact, models: Sequence[Artifact]) -> list[str]:
    """Smaller models of the same tokenizer, by which one's texts can be guessed."""

    def told(one: Artifact) -> tuple[str, int]:
        files = one.manifest.files
        return files["tokenizer/tokenizer.json"].sha256, files["model/model.safetensors"].bytes

    spoken, size = told(artifact)
    return [one.reference for one in models if told(one)[0] == spoken and 2 * told(one)[1] <= size]


def taken(artifact: Artifact, limits: Limits) -> Takes:
    """What a model takes that is asked within limits; raises `ConfigError` where it cannot write."""
    return takes(artifact, limits.places(longest_of(artifact)))


def _writes(artifact: Artifact) -> bool:
    return artifact.manifest.files.keys() >= {"model/config.json", "tokenizer/tokenizer.json"}


def talks(store: Store, artifact: Artifact) -> bool:
    """Whether a model has learnt from conversations."""
    read = [store.find(one) for one in artifact.manifest.inputs.values() if one.startswith("Tokenize/")]
    return any(one is not None and one.manifest.fields.get("encoding", {}).get("kind") == "Chat" for one in read)


def _field(asked: Any, name: str) -> Any:
    if not isinstance(asked, Mapping):
        raise RefusedError(400, "the body is no JSON object")
    return asked.get(name)
