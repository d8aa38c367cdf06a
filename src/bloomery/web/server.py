"""`Served`: a model behind OpenAI's API, as an ASGI application; `serve` runs it.

    POST /v1/chat/completions   a reply to a conversation, whole or streamed
    POST /v1/completions        texts that go on with prompts, with `echo` and `logprobs` what the model says of the prompts themselves
    POST /v1/embeddings         texts as vectors
    GET  /v1/models  /health  /metrics
    GET  /                      a page to talk to it

One that takes weights, as a training whose policy it writes for has it do, has two more:

    PUT  /v1/weights/{version}  a safetensors file of the model's weights by our names, written with once the texts under way are done
    GET  /v1/weights            which weights those are

What is wrong with a request is told in one sentence, with a status from 400 on; nothing of a request can make the server fail. A client that
leaves has its texts dropped.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from bloomery.core.errors import ArtifactError, BloomeryError, ConfigError, DataError
from bloomery.core.rng import derive_seed
from bloomery.core.units import human_count
from bloomery.generate import Drafter, Engine, Job, Spelling, Stops, job_by
from bloomery.models.model import CausalModel
from bloomery.stages.sharing.demo import demo_page
from bloomery.stages.writing import Renewal
from bloomery.text.tokenizer import Tokenizer
from bloomery.web.admission import Admission, RefusedError
from bloomery.web.bodies import ChatBody, CompletionBody, EmbeddingBody, read_body
from bloomery.web.embed import embedded
from bloomery.web.metrics import Metrics
from bloomery.web.replies import Sheet, failure
from bloomery.web.worker import BusyError, ClosingError, Ticket, Worker

OPEN = ("/health", "/")  # what is told without a key
VERSION = re.compile(r"[A-Za-z0-9]{8,128}")
Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes.

    Attributes:
        rows: texts under way at a time.
        queued: texts that may wait beside them; more are told to come again.
        body_bytes: of a request.
        seconds: that a request may take.
        capacity: tokens of a prompt and its text together; None is what the model reads.
        pool: tokens that all texts have room for together, in pages; None gives each row room for the longest.
        beams: ways that searches may follow at once, all of them together, each with room of its own for a whole text.
        remembers: tokens of texts that are done with, whose states are kept for prompts that begin alike.
    """

    rows: int = 32
    queued: int = 256
    body_bytes: int = 4 << 20
    seconds: float = 600.0
    capacity: int | None = None
    pool: int | None = None
    beams: int = 16
    remembers: int = 16_384

    def places(self, longest: int) -> int:
        """Tokens that there is room for, of a model that reads so many: in rows and where prompts are read, or in the pool; remembered; and
        in searches, twice, since what they follow is copied as it goes on."""
        longest = longest if self.capacity is None else min(self.capacity, longest)
        held = (self.rows + 1) * longest + self.remembers if self.pool is None else self.pool
        return held + 2 * self.beams * longest


@dataclass(eq=False)
class Served:
    """A model that is asked over HTTP.

    Attributes:
        model: in the state in which models are asked.
        tokenizer: its own.
        name: that clients know it by.
        keys: of which each request must bear one; none asks for none.
        limits: what is taken.
        local: whether it is to be reached from this machine only, so that a page in a browser must not speak for its visitor.
        draft: guesses how texts go on.
        renewal: how the model is made anew with weights that are sent; None takes none.
    """

    model: CausalModel
    tokenizer: Tokenizer
    name: str
    keys: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    local: bool = True
    draft: Drafter | None = None
    renewal: Renewal | None = None

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.worker = Worker(self._engine(self.model), self.limits.queued, self.metrics)
        self._renewing = asyncio.Lock()
        self._admission = Admission(self.keys, self.local)
        self._began_s = int(time.time())

    def app(self) -> Any:
        """The application; `worker` is to be started before it is asked."""
        routes = [
            Route("/v1/chat/completions", self._answered(partial(self._write, kind=ChatBody)), methods=["POST"]),
            Route("/v1/completions", self._answered(partial(self._write, kind=CompletionBody)), methods=["POST"]),
            Route("/v1/embeddings", self._answered(self._embed), methods=["POST"]),
            Route("/v1/models", self._answered(self._models), methods=["GET"]),
            Route("/v1/models/{name:path}", self._answered(self._models), methods=["GET"]),
            Route("/health", self._answered(self._health), methods=["GET"]),
            Route("/metrics", self._answered(self._page), methods=["GET"]),
            Route("/", self._answered(self._demo), methods=["GET"]),
        ]
        if self.renewal is not None:
            routes += [
                Route("/v1/weights", self._answered(self._weights), methods=["GET"]),
                Route("/v1/weights/{version}", self._answered(partial(self._renew, self.renewal)), methods=["PUT"]),
            ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _no_route})

    def _engine(self, model: CausalModel) -> Engine:
        limits = self.limits
        return Engine(
            model, {self.tokenizer.end}, self.tokenizer.vocab_size, limits.rows, limits.capacity, limits.remembers, limits.pool, self.draft,
            limits.beams,
        )  # fmt: skip

    def _answered(self, answer: Answer) -> Answer:
        """An answer to whoever may ask, counted; and what is wrong with a request, told."""

        async def told(request: Request) -> Response:
            began = time.monotonic()
            path = request.scope["route"].path if "route" in request.scope else request.url.path
            try:
                self._admission.check(request, free=request.url.path in OPEN)
                async with asyncio.timeout(self.limits.seconds):
                    response = await answer(request)
            except RefusedError as error:
                response = JSONResponse(failure(str(error), error.kind, error.code), error.status)
            except BusyError as error:
                response = JSONResponse(failure(str(error), "rate_limit_error", "busy"), 429, {"Retry-After": str(error.after_s)})
            except ClosingError as error:
                response = JSONResponse(failure(str(error), "server_error", "closing"), 503, {"Retry-After": "5"})
            except BloomeryError as error:
                response = JSONResponse(failure(str(error), "invalid_request_error"), 400)
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody reads it
            except TimeoutError:
                told = f"the answer took longer than {self.limits.seconds:g} s; ask for fewer tokens"
                response = JSONResponse(failure(told, "timeout_error", "timeout"), 408)
            self.metrics.answered(path, response.status_code)
            self.metrics.observe("request", time.monotonic() - began)
            return response

        return told

    async def _body(self, request: Request) -> Any:
        """The body of a request as JSON."""
        declared = request.headers.get("content-length", "")
        data = b""
        if not declared.isdecimal() or int(declared) <= self.limits.body_bytes:
            async for piece in request.stream():
                data += piece
                if len(data) > self.limits.body_bytes:
                    break
            else:
                try:
                    return await run_in_threadpool(json.loads, data)
                except (ValueError, RecursionError) as error:
                    raise RefusedError(400, f"the body is no JSON: {str(error)[:200]}") from None
        raise RefusedError(413, f"the body has more than {self.limits.body_bytes} bytes; send less at a time")

    def _check_model(self, name: str) -> None:
        if name != self.name:
            raise RefusedError(404, f"there is no model {name[:100]!r} here; {self.name!r} is", code="model_not_found")

    async def _write(self, request: Request, kind: type[ChatBody | CompletionBody]) -> Response:
        body = read_body(kind, await self._body(request))
        self._check_model(body.model)
        if body.stream and body.return_token_ids:
            raise DataError("return_token_ids goes with whole answers; leave out stream")
        jobs = await run_in_threadpool(self._jobs, body)
        chat = isinstance(body, ChatBody)
        sheet = Sheet(f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex[:24]}", self.name, self.tokenizer, chat, body.return_token_ids)
        loop, tickets = asyncio.get_running_loop(), list[Ticket]()
        try:
            for job in jobs:
                tickets.append(self.worker.submit(job, loop))
        except (BusyError, ClosingError):
            for ticket in tickets:
                self.worker.cancel(ticket)
            raise
        stops = Stops(body.stop, self.tokenizer)
        if body.stream:
            used = body.stream_options is not None and body.stream_options.include_usage
            events = self._streamed(sheet, tickets, stops, used)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        await self._until_there(request, tickets)
        return JSONResponse(sheet.whole([(self._begin(job) + stops.text(job.tokens), job) for job in jobs]))

    def _jobs(self, body: ChatBody | CompletionBody) -> list[Job]:
        """The texts that a request asks for, n to each prompt."""
        decoding, echoes = body.decoding(body.longest, self.limits.beams), isinstance(body, CompletionBody) and body.echo
        if decoding.contrast is not None:
            try:
                decoding.contrast.of(self.model)
            except ConfigError as error:
                raise DataError(f"dola_layers: {error}") from None
        tells, tells_by, seed = body.tells, body.tells_by(decoding), uuid.uuid4().int % (1 << 62) if body.seed is None else body.seed
        prompts, most = body.prompts(self.tokenizer), self.limits.rows + self.limits.queued
        if len(prompts) * body.n > most:
            raise DataError(f"{len(prompts)} prompts of n={body.n} texts are {len(prompts) * body.n}, and there are never places for more than "
                            f"{most}; ask for fewer at a time")  # fmt: skip
        found = []
        for i, prompt in enumerate(prompts):
            for number in range(body.n):
                own = seed if i == number == 0 else derive_seed(seed, "choice", i, number)
                job = job_by(decoding, self.tokenizer, prompt, own, tells, echoes=echoes, tells_by=tells_by)
                job.limit = min(job.limit, body.longest)
                self.worker.engine.check(job)
                found.append(job)
        return found

    async def _until_there(self, request: Request, tickets: Sequence[Ticket]) -> None:
        """Waits for whole texts, and for a client that leaves."""

        async def all_there() -> None:
            await asyncio.gather(*(_last(self.worker.tokens(ticket)) for ticket in tickets))

        there, gone = asyncio.ensure_future(all_there()), asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait((there, gone), return_when=asyncio.FIRST_COMPLETED)
            if not there.done():
                raise ClientDisconnect
            there.result()
        finally:
            for one in (there, gone):
                one.cancel()
            await asyncio.gather(there, gone, return_exceptions=True)
            for ticket in tickets:
                self.worker.cancel(ticket)

    async def _streamed(self, sheet: Sheet, tickets: Sequence[Ticket], stops: Stops, used: bool) -> AsyncIterator[str]:
        """Server-sent events: the pieces of all texts as they come."""
        pieces: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()

        async def follow(index: int, ticket: Ticket) -> None:
            try:
                async for piece in self._pieces(sheet, index, ticket, stops):
                    pieces.put_nowait(piece)
            except Exception as error:
                pieces.put_nowait(error)
            pieces.put_nowait(None)

        following = [asyncio.ensure_future(follow(i, ticket)) for i, ticket in enumerate(tickets)]
        try:
            async with asyncio.timeout(self.limits.seconds):
                left = len(following)
                while left:
                    piece = await pieces.get()
                    left -= piece is None
                    if isinstance(piece, Exception):
                        yield _event(failure(str(piece) or type(piece).__name__, "server_error"))
                        return
                    if piece is not None:
                        yield _event(piece)
                if used:
                    yield _event(sheet.used([ticket.job for ticket in tickets]))
                yield "data: [DONE]\n\n"
        except TimeoutError:
            yield _event(failure(f"the answer took longer than {self.limits.seconds:g} s; ask for fewer tokens", "timeout_error", "timeout"))
        finally:
            for one in following:
                one.cancel()
            for ticket in tickets:
                self.worker.cancel(ticket)

    async def _pieces(self, sheet: Sheet, index: int, ticket: Ticket, stops: Stops) -> AsyncIterator[dict[str, Any]]:
        """The parts of one text."""
        job, spelling, told, known, first = ticket.job, Spelling(stops, self.tokenizer), 0, 0, True
        text = self._begin(job)
        async for count, last in self.worker.tokens(ticket):
            text += "".join(spelling.add(token) for token in job.tokens[known:count])
            text += spelling.rest() if last else ""
            upto = len(job.told)
            if text or last or first or job.tells is not None:
                yield sheet.piece(index, text, job, (told, upto), last, first)
                text, told, first = "", upto, False
            known = count

    def _begin(self, job: Job) -> str:
        """The prompt, where it is part of the answer."""
        return self.tokenizer.decode(list(job.prompt)) if job.echoes else ""

    async def _embed(self, request: Request) -> Response:
        body = read_body(EmbeddingBody, await self._body(request))
        self._check_model(body.model)
        texts = await run_in_threadpool(body.texts, self.tokenizer)
        vectors = await self.worker.ask(lambda: embedded(self.worker.engine.model, texts))
        used = sum(map(len, texts))
        shown = (
            (base64.b64encode(vector.astype("<f4").tobytes()).decode() if body.encoding_format == "base64" else vector.tolist())
            for vector in np.asarray(vectors, np.float32)
        )
        return JSONResponse({
            "object": "list", "model": self.name, "usage": {"prompt_tokens": used, "total_tokens": used},
            "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(shown)],
        })  # fmt: skip

    async def _models(self, request: Request) -> Response:
        one = {
            "id": self.name, "object": "model", "created": self._began_s, "owned_by": "bloomery",
            "max_model_len": self.worker.engine.capacity,
        }  # fmt: skip
        if (name := request.path_params.get("name")) is None:
            return JSONResponse({"object": "list", "data": [one]})
        self._check_model(name)
        return JSONResponse(one)

    async def _weights(self, request: Request) -> Response:
        return JSONResponse({"object": "weights", "version": self.worker.version})

    async def _renew(self, renewal: Renewal, request: Request) -> Response:
        """Takes weights: they are read, and the model is made of them, while texts are written by the old ones."""
        version = request.path_params["version"]
        if not VERSION.fullmatch(version):
            raise DataError(f"weights are named by 8 to 128 letters and digits, not {version[:100]!r}; take their SHA-256")
        async with self._renewing:
            with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
                size = 0
                async for piece in request.stream():
                    if (size := size + len(piece)) > renewal.most_bytes:
                        raise RefusedError(413, f"the weights are more than the {renewal.most_bytes} bytes that this model's can be")
                    await run_in_threadpool(file.write, piece)
                await run_in_threadpool(file.flush)
                try:
                    model = await run_in_threadpool(renewal.model, Path(file.name))
                except ArtifactError as error:
                    told = str(error).removeprefix(file.name).partition(";")[0].lstrip(": ")
                    raise DataError(f"what was sent is not this model's weights: it {told}; send those of a model like it") from None
            await self.worker.take(await run_in_threadpool(self._engine, model), version)
            self.model = model
        return await self._weights(request)

    async def _health(self, request: Request) -> Response:
        well = self.worker.is_alive()
        return JSONResponse({"status": "ok" if well else "the model's thread has ended"}, 200 if well else 503)

    async def _demo(self, request: Request) -> Response:
        about = [] if self.keys else [
            (human_count(self.model.config.n_params), "parameters"), (f"{self.model.config.max_seq_len:,}", "tokens it reads"),
        ]  # fmt: skip
        return HTMLResponse(demo_page(self.name, about), headers={"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"})

    async def _page(self, request: Request) -> Response:
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")


async def _last(counts: AsyncIterator[tuple[int, bool]]) -> None:
    async for _ in counts:
        pass


async def _left(request: Request) -> None:
    """Returns once the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: f"there is nothing at {request.url.path[:100]!r}", 405: f"{request.method} is not for {request.url.path[:100]!r}"}
    return JSONResponse(failure(told.get(error.status_code, error.detail), "invalid_request_error"), error.status_code, error.headers)


def _event(piece: dict[str, Any]) -> str:
    return f"data: {json.dumps(piece, ensure_ascii=False)}\n\n"

