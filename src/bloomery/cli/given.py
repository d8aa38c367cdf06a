"""What is given on the command line, as values: recipes with their dials, artifacts, where and how to run. Heavy imports stand inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from bloomery.core.errors import ConfigError

if TYPE_CHECKING:  # annotations only; nothing of ours is imported the other way round
    from bloomery.recipe import Dials, Recipe
    from bloomery.stages.stage import RunContext
    from bloomery.store import Store


def told_by_another() -> bool:
    """Whether another rank tells what all ranks on this machine have to tell: the first one of them that the launcher has started here."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def launching(ctx: click.Context, launcher: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The launcher's options, taken out of all; refuses those that nobody would read."""
    from bloomery.cli.launch.options import LAUNCHING, check

    found = {name: options.pop(name) for name in LAUNCHING}
    check(ctx, launcher, found)
    return found


def recipe_of(spec: str, arguments: list[str]) -> tuple[Dials[Recipe], dict[str, str]]:
    """A recipe's dials, and what they are set to."""
    from bloomery.recipe import load_recipe

    return load_recipe(spec), dial_texts(arguments)


def dial_texts(arguments: list[str]) -> dict[str, str]:
    """`--name value` and `--name=value` pairs as {name: value}."""
    texts: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise ConfigError(f"{option!r} is not understood here; dials are set as --NAME VALUE")
        name, equals, value = option.removeprefix("--").partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"{option} lacks a value; write {option} VALUE")
            value = rest.pop(0)
        texts[name.replace("-", "_")] = value
    return texts


def flat_of(spec: str, texts: dict[str, str]) -> Any:
    """All fields of a recipe, or of a past run's lock file, on one level."""
    from bloomery.recipe import load_recipe, read_lock

    return read_lock(Path(spec)) if spec.endswith(".json") else load_recipe(spec).set(texts).flat()


def store_at(path: Path) -> Store:
    """The store in a folder."""
    from bloomery.store import Store

    return Store(path)


def artifact_of(text: str, store_path: Path) -> Any:
    """An artifact by its path, its reference within the store, or an unambiguous beginning of either."""
    from bloomery.store import Artifact, find_artifact

    path = Path(text)
    return Artifact.open(path) if path.is_dir() else find_artifact(store_at(store_path), text)


def context_of(
    *, store_path: Path, device: str, micro_batch: int | None, compiling: Literal["auto", "always", "never"], workers: int | None,
    cluster: str | None, layout: str, recompute: str, offload: str, trackers: tuple[str, ...], keep_every: int | None, quiet: bool,
    key_file: Path | None, at_once: int | None, engines: tuple[str, ...],
) -> RunContext:
    """Where and how to run, as `run_options` say."""
    from bloomery.generate import Access
    from bloomery.mesh import Layout, Mesh, ranks_started
    from bloomery.stages.stage import RunContext
    from bloomery.train.offload import parse_offload
    from bloomery.train.recompute import Recompute

    mesh = Mesh.join(Layout.parse(layout, ranks_started()), device_of(device))
    return RunContext(
        store=store_at(store_path), device=mesh.device, mesh=mesh, micro_batch=micro_batch, compile=compiling,
        recompute=Recompute.parse(recompute), offload=parse_offload(offload), workers=workers or os.cpu_count() or 1, cluster=cluster,
        trackers=_trackers(trackers), keep_every=keep_every, quiet=quiet or not mesh.leads,
        access=Access(key=_key(key_file), at_once=at_once), engines=engines,
    )  # fmt: skip


def device_of(device: str) -> str:
    """What to compute on, as `--device` says; auto takes a GPU where there is one."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU here; use --device cpu or install a CUDA build of torch")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _trackers(names: tuple[str, ...]) -> Any:
    """The trackers that are asked for; whether their packages are there is known before anything is run."""
    from bloomery.train.trackers import TRACKERS

    if "none" in names and len(set(names)) > 1:
        raise ConfigError(f"--tracker none does not go with {' and '.join(n for n in names if n != 'none')}; leave out the one or the other")
    chosen = tuple(dict.fromkeys(name for name in names if name != "none"))
    for name in chosen:
        TRACKERS[name].package()
    return chosen


def _key(file: Path | None) -> str | None:
    """The key of endpoints: what the file holds, or else the environment; None where neither does."""
    key = (file.read_text() if file is not None else os.environ.get("BLOOMERY_API_KEY", "")).strip()
    if file is not None and (not key or not key.isascii() or len(key.split()) != 1):
        raise ConfigError(f"--key-file {file} does not hold one key; write it there alone, on one line")
    return key or None
