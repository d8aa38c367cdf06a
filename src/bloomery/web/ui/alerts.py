"""What there is to be said of a run, in sentences: it stands still, it was ended, steps were bad, rewards are over-optimised, it forgets, it
takes more than planned."""

from __future__ import annotations

import math
import time
from pathlib import Path
from statistics import median
from typing import Literal

from bloomery.core.errors import BloomeryError
from bloomery.stages.forecast import Plan
from bloomery.stages.run import PLAN
from bloomery.store import read_json
from bloomery.train.healing import Event
from bloomery.web.ui.curves import Curves
from bloomery.web.ui.strips import Status

STILL_S = 30.0  # without a step, and twenty times as long as steps take: it stands still
FORGOTTEN = 0.02  # of a held-out loss above its least
SLOW = 0.5  # of its usual speed
OVER = {"tensors": 1.1, "resident": 2.0}  # of the memory that was planned; libraries and gaps are resident, too
RECENT = 20  # steps

Alert = tuple[Literal["bad", "warn"], str]


def alerts(curves: Curves, status: Status, folder: Path, plan: Plan, stopping: bool, why: str = "") -> list[Alert]:
    """All of it, the worst first.

    Args:
        curves: what the run has told.
        status: of the artifact that it makes.
        folder: its workspace, or what it has left.
        plan: figure -> what was planned, and measured.
        stopping: whether it was asked to end.
        why: it failed; empty where it did not.
    """
    found: list[Alert] = []
    step = curves.last.get("step", 0)
    if status == "failed":
        found.append(("bad", f"It failed at step {step:,}: {why}"))
    if status == "stopped":
        found.append(("warn", f"It ended at step {step:,} before it was done; the same command goes on from its last checkpoint."))
    if status == "running" and not stopping and (said := _still(curves, folder)):
        found.append(("bad", said))
    for event in map(Event.of, curves.events[-RECENT:]):
        found.append(("bad" if event.rung in ("roll back", "stop") else "warn", f"{event}."))
    for said in curves.noticed:
        found.append(("bad", f"{said}."))
    pace = _slow(curves) if status == "running" else ""
    for said in filter(None, (*_forgotten(curves), pace, *_over(plan))):
        found.append(("warn", said))
    return sorted(found, key=lambda one: one[0] != "bad")


def plan_so_far(folder: Path) -> Plan:
    """What a run that is under way was planned to take, beside what it takes; nothing where it has not told that yet."""
    try:
        return read_json(folder / PLAN)
    except BloomeryError:
        return {}


def _still(curves: Curves, folder: Path) -> str:
    speeds = [value for _, value in curves.all_of("tokens_per_s")[-RECENT:]]
    steps = sorted(curves.tokens)[-2:]
    if len(steps) < 2 or not speeds:
        return ""
    usual = (curves.tokens[steps[1]] - curves.tokens[steps[0]]) / max(median(speeds), 1e-9)
    since = time.time() - (folder / "metrics.jsonl").stat().st_mtime
    return f"No step for {since:.0f} s; steps took {usual:.2g} s. It may be measuring, or hang." if since > max(STILL_S, 20 * usual) else ""


def _forgotten(curves: Curves) -> list[str]:
    """Held-out losses that have risen again."""
    found = []
    for name in curves.names:
        if not name.startswith("held_out/") or not name.endswith("/loss"):
            continue
        finite = [(value, step) for step, value in curves.all_of(name) if math.isfinite(value)]
        (now, _), (best, step) = (finite[-1], min(finite)) if finite else ((0.0, 0), (0.0, 0))
        if now > best * (1 + FORGOTTEN):
            found.append(f"{name} was {best:.4g} at step {step:,} and is {now:.4g} now: it forgets, or learns its rows by heart.")
    return found


def _slow(curves: Curves) -> str:
    speeds = [value for _, value in curves.all_of("tokens_per_s")[-10 * RECENT :]]
    if len(speeds) < 3 * RECENT:
        return ""
    now, usual = median(speeds[-RECENT:]), median(speeds)
    return f"It is slow: {now:,.0f} tokens a second in its last {RECENT} steps, and {usual:,.0f} before." if now < SLOW * usual else ""


def _over(plan: Plan) -> list[str]:
    ratios = [plan[name].get("ratio", 0.0) for name, most in OVER.items() if name in plan and plan[name].get("ratio", 0.0) > most]
    return [f"It takes {ratio:.0%} of the memory that was planned." for ratio in ratios]
