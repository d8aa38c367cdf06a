"""A store as runs leave it, made by hand, and its pages behind a port."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection

import uvicorn

from bloomery.stages.labels import Item, Judgements
from bloomery.store import Store, write_json
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.healing import Event
from bloomery.web.ui.app import Pages

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\x1b[31m\u202egnp.exe"


def made(store: Store, reference: str, inputs=None, summary=None, fields=None, files=()):
    """A finished artifact."""
    stage, _, name = reference.partition("/")
    workspace = store.workspace(reference)
    for path, text in files:
        (workspace.path / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.path / path).write_text(text)
    return workspace.finish(stage=stage, name=name.rpartition("-")[0], key=name.rpartition("-")[2], fields=fields or {}, inputs=inputs or {},
                            summary=summary or {})  # fmt: skip


def line(step: int, loss: float | None = None, **more) -> str:
    """Of `metrics.jsonl`."""
    figures = {"step": step, "tokens": 512 * step, "loss": 1.0 / (1 + step) if loss is None else loss, "tokens_per_s": 1000.0} | more
    return json.dumps(figures) + "\n"


def small_store(store: Store) -> None:
    """A recipe of which a training is done, one is under way (its lease is free), and one is missing; with texts that mean harm."""
    tokenizer = Tokenizer.train(["the quick brown fox"] * 9, vocab_size=280)
    tokenizer.save(store.workspace("TrainTokenizer/main-0").path / "tokenizer.json")
    made(store, "TrainTokenizer/main-0", summary={"vocab_size": tokenizer.vocab_size})
    samples = [{"step": 0, "prompt": HOSTILE, "answer": "first"}, {"step": 40, "prompt": HOSTILE, "answer": HOSTILE}]
    blamed = ({"source": "web", "id": HOSTILE},)
    event = Event(step=7, cause="loss", rung="skip", loss=9.0, grad_norm=1.0, limit=2.5, documents=blamed).plain()
    metrics = line(0, 3.0) + "".join(line(step) for step in range(1, 40)) + line(40, healing=[event]) + json.dumps(
        {"step": 40, "held_out/unread/bits_per_byte": 1.5}) + "\n"  # fmt: skip
    made(store, "Train/base-1", {"tokenizer": "TrainTokenizer/main-0"}, {"parameters": 1234, "steps": 40, "plan": {}}, {"name": HOSTILE}, [
        ("metrics.jsonl", metrics), ("samples.jsonl", "".join(json.dumps(one) + "\n" for one in samples)),
    ])  # fmt: skip
    going = store.workspace("Train/chat-2").path / "metrics.jsonl"
    going.write_text(line(0) + line(1) + line(2))
    ask = ({"role": "user", "content": "How hot is it?"},)
    Judgements(store.root / "labels" / "first.sqlite").add_items([Item(ask, ("very", HOSTILE)), Item(ask, ("a", "b", "c"))])
    label = {"steps": 100, "batch_tokens": 512, "init.base": "→ Train/base", "tokenizer": "→ TrainTokenizer/main"}
    write_json(store.root / "small.lock.json", {"recipe": "small", "bloomery": "0", "stages": {
        "TrainTokenizer/main": {"reference": "TrainTokenizer/main-0", "fields": {}},
        "Train/base": {"reference": "Train/base-1", "fields": {"steps": 40, "batch_tokens": 512}},
        "Train/chat": {"reference": "Train/chat-2", "fields": label},
        "Evaluate/exam": {"reference": "Evaluate/exam-3", "fields": {"model": "→ Train/chat"}},
    }})  # fmt: skip


@contextmanager
def leased(store: Store, reference: str) -> Iterator[None]:
    """As while a run makes it."""
    descriptor = os.open(store.path(f"{reference}.lease"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def served(store: Store, keys: Sequence[str] = ()) -> Iterator[str]:
    """The address of its pages."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Pages(store, keys).app(), log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


def ask(address: str, path: str, body=None, **headers):
    """Status, body (as JSON where it is some) and response."""
    connection = HTTPConnection(address.removeprefix("http://"), timeout=30)
    data = None if body is None else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", path, data, {"Content-Type": "application/json"} | headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content) if "json" in response.getheader("Content-Type", "") else content.decode(), response
