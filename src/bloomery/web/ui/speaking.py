"""`Speakers`: models that the pages ask, each behind OpenAI's API as `bloomery serve` has it; loaded when they are asked, let go of when not.

    POST /model/STAGE/ARTIFACT/v1/chat/completions    and what else `Served` answers below /v1/, but for what is only looked at
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from bloomery.core.errors import BloomeryError
from bloomery.models import causal
from bloomery.stages.alignment.asked import Asked
from bloomery.stages.trained import opened, tokenizer_of, verified
from bloomery.store import Artifact, Store
from bloomery.web.admission import Admission, RefusedError
from bloomery.web.replies import failure
from bloomery.web.server import Limits, Served
from bloomery.web.ui.looking import ids_of, inside, weighed
from bloomery.web.ui.strips import finished

KEPT = 2  # models in memory: those that are talked to side by side
IDLE_S = 300.0  # without a question, behind which a model is let go of
LIMITS = Limits(rows=4, queued=12, remembers=4096)


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
        self._known: dict[str, Speaker] = {}  # the one that was asked last is the last
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
            answer = (await self.of(f"{stage}/{artifact}")).app
        except RefusedError as error:
            answer = JSONResponse(failure(str(error), error.kind, error.code), error.status)
        except BloomeryError as error:
            answer = JSONResponse(failure(str(error), "invalid_request_error"), 400)
        await answer(dict(scope) | {"path": f"/v1/{verb}", "raw_path": f"/v1/{verb}".encode(), "root_path": ""}, receive, send)

    async def of(self, reference: str) -> Speaker:
        """A model, loaded if it is not; raises `RefusedError` where there is none of that name, `BloomeryError` where it cannot write."""
        async with self._loading:
            speaker = self._known.pop(reference, None) or await run_in_threadpool(self._loaded, reference)
            self._known[reference] = speaker
        speaker.asked_s = time.monotonic()
        while len(self._known) > KEPT:
            self._let_go(next(iter(self._known)))
        asyncio.get_running_loop().call_later(IDLE_S, self.tidy)
        return speaker

    def tidy(self) -> None:
        """Lets go of the models that nobody has asked for a while."""
        now = time.monotonic()
        for reference, speaker in list(self._known.items()):
            if now - speaker.asked_s >= IDLE_S and not speaker.busy:
                self._let_go(reference)

    @property
    def loaded(self) -> list[str]:
        """Which are in memory."""
        return list(self._known)

    def _let_go(self, reference: str) -> None:
        self._known.pop(reference).served.worker.close()  # what it is writing comes to its end

    def _loaded(self, reference: str) -> Speaker:
        artifact = finished(self.store, reference)
        if artifact is None or not _writes(artifact):
            raise RefusedError(404, f"the store holds no model {reference[:200]!r}")
        served = Served(causal(opened(verified(artifact), "cpu")), tokenizer_of(artifact), reference, limits=LIMITS, local=self.admission.local)
        served.worker.start()
        return Speaker(served, served.app(), time.monotonic())

    async def look(self, asked: Any) -> dict[str, Any]:
        """What each layer would say behind the last tokens of a text or conversation, and where the heads of a layer look."""
        model, messages, text, layer = (_field(asked, name) for name in ("model", "messages", "text", "layer"))
        served = (await self.of(str(model))).served
        asked_of = Asked(served.model, served.tokenizer)
        ids = ids_of(asked_of, messages, text)
        return await served.worker.ask(lambda: inside(asked_of, ids, layer if isinstance(layer, int) else None))

    async def weigh(self, asked: Any) -> dict[str, Any]:
        """How likely a model finds each token of some answers to a conversation."""
        model, messages, answers = (_field(asked, name) for name in ("model", "messages", "answers"))
        if not isinstance(answers, list) or not 0 < len(answers) <= 8 or not all(isinstance(one, str) and one for one in answers):
            raise RefusedError(400, "give one to eight answers, texts with something in them")
        served = (await self.of(str(model))).served
        asked_of = Asked(served.model, served.tokenizer)
        return {"answers": await served.worker.ask(lambda: [weighed(asked_of, messages, answer) for answer in answers])}


def models_of(store: Store) -> list[Artifact]:
    """What has left a model and its tokenizer, the newest first."""
    return [one for one in reversed(store.artifacts()) if _writes(one)]


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
