"""Putting a trained model behind HTTP."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from bloomery.core.errors import ConfigError, ResourceError
from bloomery.generate import Drafter
from bloomery.models.checkpoint import read_config
from bloomery.stages.trained import tokenizer_of
from bloomery.stages.writing import Renewal, writing
from bloomery.store import Artifact

LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    artifact: Artifact, *, name: str | None, host: str, port: int, key_file: Path | None, device: str, seconds: float, rows: int, beams: int,
    queued: int, body_mib: float, capacity: int | None, pool: int | None, remembers: int, grace: float, weights: str | None,
    past: str | None, draft: Drafter | None, takes_weights: bool,
) -> None:
    """Answers requests until it is told to end, and then those that it has begun."""
    try:
        import uvicorn

        from bloomery.web.server import Limits, Served
    except ModuleNotFoundError as error:
        raise ResourceError(f"serving needs {error.name}, which is not installed; pip install 'bloomery[serve]'") from None
    keys = keys_for(host, key_file, "ask")
    limits = Limits(
        rows=rows, beams=beams, queued=queued, body_bytes=int(body_mib * (1 << 20)), seconds=seconds, capacity=capacity, pool=pool,
        remembers=remembers,
    )
    name = name or artifact.manifest.name
    renewal = Renewal(read_config(artifact.path / "model"), device, weights, past) if takes_weights else None
    served = Served(
        model=writing(artifact, device, weights, past), tokenizer=tokenizer_of(artifact), name=name, keys=keys, limits=limits,
        local=host in LOCAL, draft=draft, renewal=renewal,
    )  # fmt: skip
    listener, address = listening(host, port)
    settings = uvicorn.Config(
        served.app(), log_level="warning", access_log=False, timeout_graceful_shutdown=int(grace), server_header=False, lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(settings)
    served.worker.start()
    asked = ", asked for with a key" if keys else ""
    click.echo(f"{artifact.reference} is {name!r} at {address}/v1{asked}; talk to it at {address}/; Ctrl-C ends it", err=True)
    try:
        asyncio.run(until_ended(server, listener))
    finally:
        served.worker.close()
        served.worker.join(timeout=grace)
    click.echo("ended", err=True)


async def until_ended(server: Any, listener: socket.socket) -> None:
    """The first signal lets what is under way come to its end, a second one does not."""

    def end() -> None:
        if not server.should_exit:
            click.echo("ending: what is under way is written to its end; Ctrl-C once more leaves it", err=True)
        server.should_exit, server.force_exit = True, server.should_exit

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    server.capture_signals = nullcontext  # its own would have the same signal end this process once more, behind all
    await server.serve(sockets=[listener])


def listening(host: str, port: int) -> tuple[socket.socket, str]:
    """What is listened at, and its address; raises `ResourceError` where that cannot be."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ResourceError(f"{host}:{port} cannot be listened at ({error.strerror or error}); take another --port") from None
    return listener, f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def keys_for(host: str, key_file: Path | None, what: str) -> list[str]:
    """The keys that are given; raises `ConfigError` where other machines could do something, `what`, without one."""
    keys = [] if key_file is None else keys_of(key_file)
    if host not in LOCAL and not keys:
        raise ConfigError(f"--host {host} lets other machines {what}, and they need a key to; give --key-file FILE, with a key in each line")
    return keys


def keys_of(path: Path) -> list[str]:
    """The keys of a file, one in each line; lines that begin with # are none."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ConfigError(f"--key-file {path} has no key in it; write one into each line")
    if short := next((key for key in keys if len(key) < 16), None):
        raise ConfigError(f"--key-file {path} has a key of {len(short)} characters, which can be guessed; take 16 at least")
    return keys
