"""The verb `ui`: the pages of a store, in a browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bloomery.cli.given import store_at
from bloomery.cli.options import store_option
from bloomery.core.errors import ConfigError, ResourceError


@click.command(epilog="Example: bloomery ui --store store   # and open the address; over SSH: ssh -L 8642:127.0.0.1:8642 HOST")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; any but this machine itself needs --key-file.")
@click.option("--port", type=click.IntRange(0, 65535), default=8642, show_default=True)
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Keys, one in each line; open the pages as "
              "/?key=KEY.")  # fmt: skip
@store_option
def ui(host: str, port: int, key_file: Path | None, store_path: Path) -> None:
    """Show what the store holds as pages: recipes as strips of stages, corpora and what was dropped of them, tokens, runs as they go, every
    answer of every measurement; and talk to its models, have people compare answers, plan a training.

    They write nothing but what people judge and that a run is to end, and work during a run and after a crash. They are reached from this
    machine only, unless --host says otherwise.
    """
    from bloomery.cli.serve import LOCAL, keys_for, listening, until_ended

    try:
        import uvicorn

        from bloomery.web.ui.app import Pages
    except ModuleNotFoundError as error:
        raise ResourceError(f"the pages need {error.name}, which is not installed; pip install 'bloomery[serve]'") from None
    keys = keys_for(host, key_file, "look")
    if not store_path.is_dir():
        raise ConfigError(f"--store {store_path} is no folder; give the one that runs write to, or run: bloomery run recipes/quickstart.py")
    listener, address = listening(host, port)
    pages = Pages(store_at(store_path), keys, host in LOCAL)
    settings = uvicorn.Config(
        pages.app(), log_level="warning", access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=2
    )  # fmt: skip
    click.echo(f"{store_path} at {address}/{'?key=KEY' if keys else ''}; Ctrl-C ends it", err=True)
    asyncio.run(until_ended(uvicorn.Server(settings), listener))
