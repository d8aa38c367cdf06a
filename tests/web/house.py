"""A small model behind a server of its own, asked over real connections."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import uvicorn

from bloomery.generate import Drafter
from bloomery.models import LlamaConfig
from bloomery.nn import FanInInit
from bloomery.stages.writing import Renewal
from bloomery.text.tokenizer import Characters, Tokenizer
from bloomery.web.server import Limits, Served

TOKENIZER = Tokenizer.train(["abcdefghijklmnopqrstuvwxyz A.!?,;:-+*/=#\n{}[]\"0123456789é"], vocab_size=280, model=Characters())
MODEL = LlamaConfig(
    vocab_size=TOKENIZER.vocab_size, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=96, tie_embeddings=False,
    init=FanInInit(gain=1.5, embedding=1.0),
).build(11).eval()  # fmt: skip


class House:
    """A server that runs, and where."""

    def __init__(self, served: Served, port: int) -> None:
        self.served, self.port, self.url = served, port, f"http://127.0.0.1:{port}/v1"

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any, HTTPResponse]:
        """Status, body (as JSON where it is some) and response."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
        response = connection.getresponse()
        content = response.read()
        connection.close()
        try:
            return response.status, json.loads(content), response
        except ValueError:
            return response.status, content.decode(), response

    def post(self, path: str, **body: Any) -> tuple[int, Any, HTTPResponse]:
        """A request about the model."""
        return self.call("POST", path, {"model": "small"} | body)

    def metric(self, name: str) -> float:
        """One of the figures of /metrics."""
        lines = self.call("GET", "/metrics")[1].splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name + " ")))


@contextmanager
def house(
    limits: Limits | None = None, keys: tuple[str, ...] = (), draft: Drafter | None = None, renewal: Renewal | None = None,
    app: Callable[[Served], Any] = Served.app,
) -> Iterator[House]:
    """A server of the small model, as `running` has it."""
    served = Served(
        model=MODEL, tokenizer=TOKENIZER, name="small", keys=keys, limits=limits or Limits(rows=8, queued=100), draft=draft, renewal=renewal,
    )  # fmt: skip
    with running(served, app) as there:
        yield there


@contextmanager
def running(served: Served, app: Callable[[Served], Any] = Served.app) -> Iterator[House]:
    """A server in a thread; it is gone afterwards. `app` may put something before it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app(served), log_level="error", lifespan="off", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    served.worker.start()
    thread.start()
    try:
        yield House(served, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        served.worker.close()
        served.worker.join(20)
        assert not served.worker.is_alive()


def wait_until(said: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until something is so that another thread brings about."""
    until = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < until, f"not so after {seconds:g} s"
        time.sleep(0.005)
