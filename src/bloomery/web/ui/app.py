"""`Pages`: the pages as an ASGI application; `bloomery ui` runs it.

    GET  /                     the page; all others are parts of it
    GET  /static/…             its script, style and the chart library
    GET  /api/home             recipes as strips of stages, and what else the store holds
    GET  /api/artifact?ref=…   a manifest, and the tree that it came from
    GET  /file/REFERENCE/NAME  a page, plot or text that a stage has left, where it can reach nothing
    GET  /labels/SET.jsonl     what people have judged, as rows of preferences
    GET  /api/run?ref=…        what a training has told so far; with `after=STEP`, what it has told since
    GET  /api/step?ref=…&step=N    the rows of a step's batch, in tokens
    GET  /api/tokenizers       tokenizers in the store
    GET  /api/choices  /api/plan?model=…&machine=…&tokens=…    what a training would take that is only thought of
    POST /api/tokens           a text, or a conversation, in the tokens of each of them
    GET  /api/labels  /api/label?set=…&labeler=…  /api/agreement?set=…    what is to be compared, the next of it, how far people agree
    POST /api/judge            a judgement
    POST /api/compare          a prompt with answers that are to be judged
    POST /api/stop             asks a training to save itself and to end
    GET  /api/corpora  /api/corpus  /api/documents  /api/pairs  /api/margin  /api/story    what was read, kept, and dropped, and why
    GET  /api/evaluations  /api/evaluation  /api/answers  /api/question  /api/compared    what was measured, every answer, and models beside
         each other
    GET  /api/models           what can be talked to
    POST /model/STAGE/ARTIFACT/v1/…    a model behind OpenAI's API, loaded when it is asked; see `Speakers`
    POST /api/look  /api/weigh what happens within it, and how likely it finds an answer

What people judge, what they are to judge, and the wish that a training ends: nothing else is ever written.

What a document says goes to the browser as JSON and is put on the page as text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from html import escape
from importlib.resources import files
from inspect import isawaitable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from bloomery.core.errors import BloomeryError
from bloomery.stages.inert import inert
from bloomery.store import Store
from bloomery.store.store import STOP
from bloomery.web.admission import Admission, RefusedError
from bloomery.web.ui.alerts import alerts, plan_so_far
from bloomery.web.ui.corpora import Corpora
from bloomery.web.ui.curves import Known, lines_of
from bloomery.web.ui.examining import answers, compared, evaluation, evaluations, question
from bloomery.web.ui.labelling import Labelling
from bloomery.web.ui.pieces import loaded, rows_of_step, talk_in_pieces, text_in_pieces, tokenizers_of
from bloomery.web.ui.planning import choices, planned
from bloomery.web.ui.remembered import Remembered
from bloomery.web.ui.speaking import Speakers, guesses_for, models_of, talks
from bloomery.web.ui.strips import artifact_told, folder_of, locked, loose, status_of, strips

COOKIE = "bloomery_key"
SCRIPTS = (
    "app", "charts", "chat", "compare", "controls", "data", "evaluate", "home", "inside", "label",
    "parts", "plan", "run", "speech", "tokens",
)  # fmt: skip
KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".LICENSE": "text/plain"}
BODY_BYTES = 1 << 20
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
}  # fmt: skip
APART = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox allow-scripts"
)  # the origin of such a page is none: it can ask neither this server nor any other
SHOWN = {
    ".html": "text/html", ".svg": "image/svg+xml", ".txt": "text/plain", ".md": "text/plain", ".json": "text/plain", ".jsonl": "text/plain",
}  # fmt: skip
FILE_BYTES = 64 << 20
SAMPLES = 500
Told = Callable[[Mapping[str, str]], Any]
"""From what an address asks for to what is told."""


class Pages:
    """The pages of a store.

    Args:
        store: what is looked at.
        keys: of which a browser must bring one, by `/?key=…`, where others than this machine may ask.
        local: whether only this machine may.
    """

    def __init__(self, store: Store, keys: Sequence[str] = (), local: bool = True) -> None:
        store = Remembered(store.root)
        self.store, self.admission, self.curves, self.labelling = store, Admission(keys, local, COOKIE), Known(), Labelling(store)
        self.corpora, self.speakers = Corpora(store), Speakers(store, self.admission)
        root = files("bloomery.web.ui") / "static"
        names = ["index.html", "app.css", *(f"{name}.js" for name in SCRIPTS)]
        names += [f"vendor/{name}" for name in ("uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE")]
        self._static = {name: root.joinpath(name).read_bytes() for name in names}
        self._static["index.html"] = self._static["index.html"].replace(b"{{store}}", escape(inert(str(store.root))).encode())

    def app(self) -> Starlette:
        """The application."""
        store, labels, corpora = self.store, self.labelling, self.corpora
        told: dict[str, Told] = {
            "/api/home": self._home, "/api/artifact": self._artifact, "/api/run": self._run, "/api/step": self._step,
            "/api/tokenizers": self._tokenizers, "/api/labels": lambda asked: labels.sets(), "/api/label": labels.next,
            "/api/agreement": labels.agreed, "/api/choices": lambda asked: choices(), "/api/plan": planned, "/api/models": self._models,
            "/api/corpora": lambda asked: corpora.all(), "/api/corpus": corpora.corpus, "/api/documents": corpora.documents,
            "/api/pairs": corpora.pairs, "/api/margin": corpora.margin, "/api/story": corpora.story,
            "/api/evaluations": lambda asked: evaluations(store), "/api/evaluation": partial(evaluation, store),
            "/api/answers": partial(answers, store), "/api/question": partial(question, store),
            "/api/compared": partial(compared, store),
        }  # fmt: skip
        posted: dict[str, Callable[[Any], Any]] = {
            "/api/tokens": self._tokens, "/api/judge": self.labelling.judge, "/api/compare": self.labelling.add, "/api/stop": self._stop,
            "/api/look": self.speakers.look, "/api/weigh": self.speakers.weigh,
        }  # fmt: skip
        routes = [Route(path, self._answered(answer), methods=["GET"]) for path, answer in told.items()]
        routes += [Route(path, self._posted(answer), methods=["POST"]) for path, answer in posted.items()]
        routes += [
            Route("/model/{stage}/{artifact}/v1/{verb:path}", self.speakers, methods=["POST"]),
            Route("/", self._page, methods=["GET"]), Route("/static/{name:path}", self._part, methods=["GET"]),
            Route("/file/{stage}/{artifact}/{name:path}", self._file, methods=["GET"]),
            Route("/labels/{set}.jsonl", self._rows, methods=["GET"]),
        ]  # fmt: skip
        return Starlette(routes=routes)

    def _answered(self, answer: Told) -> Callable[[Request], Awaitable[Response]]:
        """An answer to what an address asks for."""

        async def told(request: Request) -> Response:
            return await self._told(request, lambda: answer(request.query_params))

        return told

    async def _told(self, request: Request, answer: Callable[[], Any]) -> Response:
        """What an answer says as JSON, worked out beside the loop; and what is wrong, in one sentence."""
        try:
            self.admission.check(request)
            said = await run_in_threadpool(answer)
            return JSONResponse(await said if isawaitable(said) else said, headers=HEADERS)
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, error.status, HEADERS)
        except BloomeryError as error:
            return JSONResponse({"error": str(error)}, 400, HEADERS)

    async def _page(self, request: Request) -> Response:
        """The page; with a key in the address, a cookie keeps it and the address loses it."""
        key = request.query_params.get("key", "")
        try:
            if key and self.admission.keys:
                self.admission.check(request, free=True)
                if self.admission.has(key):
                    response = RedirectResponse("/", 303)
                    response.set_cookie(COOKIE, key, httponly=True, samesite="strict", max_age=30 * 86_400)
                    return response
            self.admission.check(request)
        except RefusedError as error:
            told = "These pages need a key: open them as /?key=KEY" if error.status == 401 else "These pages are asked from this machine only"
            return HTMLResponse(f"<!doctype html><meta charset=utf-8><title>Bloomery</title><p>{told}.</p>", error.status, HEADERS)
        return Response(self._static["index.html"], headers=HEADERS, media_type="text/html")

    async def _part(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            return JSONResponse({"error": "there is nothing of that name"}, 404, HEADERS)
        kind = next((kind for end, kind in KINDS.items() if name.endswith(end)), "application/octet-stream")
        return Response(self._static[name], headers=HEADERS, media_type=kind)

    async def _file(self, request: Request) -> Response:
        """A file of a finished artifact, as it is; a page among them is in a place of its own, which reaches nothing of ours."""
        try:
            self.admission.check(request)
            stage, artifact, name = (request.path_params[part] for part in ("stage", "artifact", "name"))
            kind = next((kind for end, kind in SHOWN.items() if name.endswith(end)), None)
            if kind is None or folder_of(self.store, f"{stage}/{artifact}") is None:
                raise RefusedError(404, "there is no page, plot or text of that name")
            path = await run_in_threadpool(lambda: self.store.open(f"{stage}/{artifact}").file(name))
            if path.stat().st_size > FILE_BYTES:
                raise RefusedError(413, f"{name} has more than {FILE_BYTES >> 20} MiB; open it where it lies")
            return Response(await run_in_threadpool(path.read_bytes), headers=HEADERS | {"Content-Security-Policy": APART}, media_type=kind)
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, error.status, HEADERS)
        except BloomeryError as error:
            return JSONResponse({"error": str(error)}, 404, HEADERS)

    async def _rows(self, request: Request) -> Response:
        """What has been judged of a set, to be kept as a file."""
        try:
            self.admission.check(request)
            rows = await run_in_threadpool(self.labelling.rows, request.path_params)
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, error.status, HEADERS)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return Response(lines, headers=HEADERS | {"Content-Disposition": "attachment"}, media_type="text/plain")

    def _posted(self, answer: Callable[[Any], Any]) -> Callable[[Request], Awaitable[Response]]:
        """An answer to a body of JSON, which a form of another site cannot send."""

        async def told(request: Request) -> Response:
            data = b""
            async for piece in request.stream():
                data += piece
                if len(data) > BODY_BYTES:
                    return JSONResponse({"error": f"the text has more than {BODY_BYTES} bytes; take a part of it"}, 413, HEADERS)
            if request.headers.get("content-type", "").partition(";")[0] != "application/json":
                return JSONResponse({"error": "send JSON, as application/json"}, 415, HEADERS)
            try:
                plain = json.loads(data)
            except (ValueError, RecursionError) as error:
                return JSONResponse({"error": f"the body is no JSON: {str(error)[:200]}"}, 400, HEADERS)
            return await self._told(request, lambda: answer(plain))

        return told

    def _home(self, asked: Mapping[str, str]) -> Any:
        return {"store": str(self.store.root), "now": time.time(), "recipes": strips(self.store), "others": loose(self.store)}

    def _artifact(self, asked: Mapping[str, str]) -> Any:
        told = artifact_told(self.store, reference := asked.get("ref", ""))
        if told is None:
            raise RefusedError(404, f"the store holds no finished {reference[:200]!r}")
        return told

    def _run(self, asked: Mapping[str, str]) -> Any:
        reference = asked.get("ref", "")
        folder = folder_of(self.store, reference)
        curves = None if folder is None else self.curves.of(folder)
        if folder is None or curves is None:
            raise RefusedError(404, f"{reference[:200]!r} has told no figures; a training does from its first step on")
        after = asked.get("after", "-1")
        artifact, status = self.store.find(reference), status_of(self.store, reference)
        plan = plan_so_far(folder) if artifact is None else artifact.manifest.summary.get("plan", {})
        stopping = status == "running" and self.store.path(reference + STOP).exists()
        return {
            "reference": reference, "status": status, "last": curves.last, "stopping": stopping,
            "alerts": alerts(curves, status, folder, plan, stopping, self.store.failure(reference)),
            "curves": curves.thinned(after=int(after) if after.lstrip("-").isdecimal() else -1),
            "samples": lines_of(folder / "samples.jsonl", SAMPLES), "events": curves.events,
            "plan": plan, "fields": locked(self.store).get(reference, {}),
        }  # fmt: skip

    def _step(self, asked: Mapping[str, str]) -> Any:
        step = asked.get("step", "")
        if not step.isdecimal():
            raise RefusedError(400, f"step={step[:40]!r} is no number; give one from 1 on")
        return rows_of_step(self.store.open(asked.get("ref", "")), int(step))

    def _stop(self, asked: Any) -> Any:
        """Asks a training to save itself at its next step and to end."""
        reference = str(asked.get("ref", "")) if isinstance(asked, dict) else ""
        if folder_of(self.store, reference) is None or reference.partition("/")[0] != "Train":
            raise RefusedError(404, f"the store holds no training {reference[:200]!r}")
        if (status := status_of(self.store, reference)) != "running":
            raise RefusedError(409, f"{reference} is {status}, and only what is running can be asked to end")
        self.store.path(reference + STOP).touch()
        return {"stopping": True}

    def _models(self, asked: Mapping[str, str]) -> Any:
        models = models_of(self.store)
        return [
            {"reference": one.reference, "parameters": one.manifest.summary.get("parameters"), "talks": talks(self.store, one),
             "loaded": one.reference in self.speakers.loaded, "keyed": bool(self.admission.keys), "guesses": guesses_for(one, models)}
            for one in models
        ]  # fmt: skip

    def _tokenizers(self, asked: Mapping[str, str]) -> Any:
        return [{"reference": one.reference, "vocab_size": one.manifest.summary.get("vocab_size")} for one in tokenizers_of(self.store)]

    def _tokens(self, asked: Any) -> Any:
        try:
            references, text, messages = asked["tokenizers"], asked.get("text"), asked.get("messages")
        except (TypeError, KeyError, AttributeError):
            raise RefusedError(400, 'the body is {"tokenizers": […], "text": "…"} or, in place of "text", "messages"') from None
        if not isinstance(references, list) or len(references) > 8 or not (isinstance(text, str) or isinstance(messages, list)):
            raise RefusedError(400, "give up to eight tokenizers, and a text or messages")
        found = {}
        for reference in references:
            if folder_of(self.store, str(reference)) is None:
                raise RefusedError(404, f"the store holds no {str(reference)[:200]!r}")
            tokenizer = loaded(self.store.open(str(reference)))
            found[str(reference)] = text_in_pieces(tokenizer, text) if isinstance(text, str) else talk_in_pieces(tokenizer, messages)
        return found
