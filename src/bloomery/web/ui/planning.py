"""What the Plan page is told: memory by kind, time and money of a training that is only thought of."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.data import NextToken
from bloomery.mesh import Layout
from bloomery.models.presets import PRESETS, preset
from bloomery.optim import AdamW
from bloomery.planning.machines import MACHINES, machine
from bloomery.planning.outlook import Planner
from bloomery.planning.sizing import advice
from bloomery.stages.anatomy import Planned
from bloomery.stages.planner import UTILISATION, planner_of, usual, usual_task
from bloomery.train.recompute import Recompute

LONGEST = 4096  # tokens in a row
MOST = {"tokens": 1e15, "batch_tokens": 1e9, "ranks": 16_384}
WAYS = ("shard", "replicate", "fastest")
_ONE_AT_A_TIME = threading.Lock()  # a plan takes seconds of one core


def choices() -> dict[str, Any]:
    """What there is to choose from."""
    models = [{"name": name, "parameters": config.n_params, "layers": config.n_layers} for name, config in PRESETS.items()]
    machines = [{"name": name, "memory": one.memory, "node": one.node} for name, one in MACHINES.items()]
    return {"models": models, "machines": machines, "ways": list(WAYS)}


def planned(asked: Mapping[str, str]) -> dict[str, Any]:
    """The plan.

    Args:
        asked: model, machine, tokens, batch_tokens, ranks, way ("shard", "replicate", "fastest"), recompute, price.

    Raises:
        ConfigError: there is no such model or machine, or it cannot be laid out like that.
    """
    tokens, batch, ranks = (_number(asked, name, most) for name, most in MOST.items())
    price, way, again = _number(asked, "price", 1e6, least=0.0), asked.get("way", "shard"), Recompute.parse(asked.get("recompute", "none"))
    if way not in WAYS:
        raise ConfigError(f"way={way[:40]!r} is none of {', '.join(WAYS)}")
    name, on = asked.get("model", ""), asked.get("machine", "")
    world = int(ranks)
    time = min(preset(name).max_seq_len, LONGEST)
    rows = max(1, round(batch / time / world)) * world
    with _ONE_AT_A_TIME:
        planner = _planner(name, on, rows, time)
        if way == "fastest":
            there = next(planner.fitting(world), None)
            if there is None:
                raise ConfigError(f"no layout of {world} fits; give more of them, or choose shard to see what it lacks")
        else:
            there = planner.outlook(usual(planner, Layout.parse(f"{way}={world}"), None, again))
        others = planner.alternatives(there) if way == "fastest" else []
    seconds = tokens / there.speed.tokens_per_s
    layout = str(there.setting.layout) or f"{way}={world}"
    line = f"bloomery size {name} --tokens {tokens:.3g} --batch-tokens {rows * time} --layout {layout} --machine {on}"
    return {
        "model": name, "setting": str(there.setting), "rows": rows, "time": time, "fits": there.fits, "usable": there.usable,
        "places": [{"total": place.total, "moment": place.moment, "parts": dict(place.parts)} for place in _told(there.places)],
        "tokens_per_s": there.speed.tokens_per_s, "step_s": there.speed.step_s, "utilisation": there.speed.utilisation, "seconds": seconds,
        "machine_hours": seconds / 3600 * world, "cost": seconds / 3600 * world * price if price else None,
        "flops": tokens * planner.work.flops_per_token, "advice": advice(preset(name).n_params, 0, tokens, None),
        "others": [{"setting": str(one.setting), "memory": one.memory.total, "step_s": one.speed.step_s, "why": why} for one, why in others],
        "recipe": _in_a_recipe(name, time, rows * time, tokens),
        "command": line + ("" if again.kind == "none" else f" --recompute {again.kind}") + (f" --price {price:g}" if price else ""),
    }  # fmt: skip


@lru_cache(maxsize=16)
def _planner(name: str, on: str, rows: int, time: int) -> Planner:
    config = preset(name)
    thought_of = Planned(config=config, time=time, optimizer=AdamW(), task=usual_task(config), precision="bf16", guarded=True)
    return planner_of(thought_of, machine(on), rows, UTILISATION)


def _in_a_recipe(name: str, time: int, batch_tokens: int, tokens: float) -> str:
    """The training as the value that a recipe has of it."""
    task = usual_task(preset(name))
    told = "" if task == NextToken() else f" task={type(task).__name__}(),"
    return (
        f'Train(\n    init=Scratch(model=preset("{name}")), tokenizer=tokenizer, sources=(Share(tokens=read),),{told}\n'
        f'    max_seq_len={time}, batch_tokens={batch_tokens}, tokens={tokens:.0f}, optimizer=AdamW(), precision="bf16",\n)'
    )


def _told(places: Any) -> list[Any]:
    """Of many places of a pipeline the first, the fullest and the last."""
    return list(places) if len(places) <= 4 else [places[0], max(places, key=lambda place: place.total), places[-1]]


def _number(asked: Mapping[str, str], name: str, most: float, least: float = 1.0) -> float:
    try:
        value = float(asked.get(name, ""))
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ConfigError(f"{name}={asked.get(name, '')[:40]!r} is no number from {least:g} to {most:g}")
    return value
