"""The verb `size`, and what `plan` adds for each training: memory, time, money, other ways, and how large a model on how much data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from bloomery.cli.show import console
from bloomery.core.errors import ConfigError
from bloomery.core.units import bytes_of, count_of, human_bytes, human_count, human_seconds
from bloomery.mesh import Layout
from bloomery.models import ModelConfig
from bloomery.models.presets import preset
from bloomery.optim import AdamW, Muon
from bloomery.planning.machines import Machine, machine
from bloomery.planning.outlook import USABLE, Outlook, Planner
from bloomery.planning.sizing import advice, best_split
from bloomery.recipe import PlannedStage
from bloomery.stages.anatomy import Planned
from bloomery.stages.planner import here, planner_of, usual, usual_task
from bloomery.stages.train import Train
from bloomery.train import Precision
from bloomery.train.offload import Offloaded, check_together, parse_offload
from bloomery.train.recompute import Recompute

OPTIMIZERS = {"adamw": AdamW(), "muon": Muon()}
BAR = 40  # characters of the longest bar
HERE = "this machine"


@dataclass(frozen=True, kw_only=True)
class Means:
    """What is trained with.

    Attributes:
        layout: how ranks are laid out, as the command line has it.
        machine: name of a known one, or None for this one.
        memory: of each, as people write it, where it is not that of the data sheet.
        price: of an hour of each; None where nobody said.
        utilisation: share of its peak that products reach; an assumption.
        micro_batch: rows in a forward pass; None for as many as a run would take.
        recompute: activations that are computed again, as the command line has it.
        offload: what waits in the host's memory, likewise.
    """

    layout: str
    machine: str | None
    memory: str | None
    price: float | None
    utilisation: float
    micro_batch: int | None
    recompute: str
    offload: str = "none"

    @property
    def away(self) -> frozenset[Offloaded]:
        """What waits in the host's memory, which goes together with what is computed again."""
        found = parse_offload(self.offload)
        check_together(found, Recompute.parse(self.recompute))
        return found

    @property
    def named(self) -> Machine:
        """The machine."""
        found = here() if self.machine is None else machine(self.machine)
        return found if self.memory is None else found.replace(memory=round(bytes_of(self.memory)))


def size(
    model: str, means: Means, *, tokens: str, learnt: str, batch_tokens: str, time: int | None, precision: Precision, optimizer: str,
    ranks: int | None, grown: str | None,
) -> None:
    """Plans the training of a preset and prints it.

    Args:
        model: name of the preset.
        means: what it is trained with.
        tokens: to train on, as people write numbers.
        learnt: those that it has seen already.
        batch_tokens: those of a step, rounded to whole rows that the layout's ranks share evenly.
        time: places in a row; None for the model's longest, at most 4096.
        precision: of matrix products.
        optimizer: "adamw" or "muon".
        ranks: among whose layouts the fastest that fits is taken; None takes the one that `means` says.
        grown: name of the preset that it could become.
    """
    config = preset(model)
    time = time or min(config.max_seq_len, 4096)
    layout = Layout.parse(means.layout)
    share, new = layout.readers if ranks is None else ranks, count_of(tokens)
    rows = max(1, round(count_of(batch_tokens) / time / share)) * share
    planned = Planned(
        config=config, time=time, optimizer=OPTIMIZERS[optimizer], task=usual_task(config), precision=precision, guarded=True,
        offload=means.away,
    )  # fmt: skip
    planner = planner_of(planned, means.named, rows, means.utilisation, new)
    console.print(Text(headline(model, config, time), "bold"))
    step = f"steps of {rows} rows of {time}: {human_count(rows * time)} tokens"
    console.print(Text(f"{step}; weights, gradients and {optimizer} in fp32, products in {precision}"))
    there = chosen(planner, means, layout, ranks)
    print_outlook(planner, there, means, new)
    print_ways(planner, there)
    console.print(Text("size and data", "bold"))
    for line in advice(config.n_params, count_of(learnt), new, None if grown is None else preset(grown).n_params):
        console.print(Text(f"  {line}"))
    params, best = best_split(new * planner.work.flops_per_token)
    console.print(Text(f"  for the operations of this training, {human_count(params)} parameters on {human_count(best)} tokens would be best"))
    console.print(Text("  by L = E + A/N^α + B/D^β (arXiv 2203.15556, constants of 2404.10102), for decoders on text of their kind", "dim"))


def chosen(planner: Planner, means: Means, layout: Layout, ranks: int | None) -> Outlook:
    """What is planned: the layout that was asked for, or the fastest of so many ranks.

    Raises:
        ConfigError: it cannot be laid out like that, or nothing fits.
    """
    if ranks is None:
        return planner.outlook(usual(planner, layout, means.micro_batch, Recompute.parse(means.recompute)))
    found = next(planner.fitting(ranks), None)
    if found is None:
        memory = human_bytes(planner.machine.memory)
        raise ConfigError(f"--ranks {ranks}: no layout of so many fits into {memory} each; give more, or a layout to see what it lacks")
    return found


def print_trainings(rows: Sequence[PlannedStage], means: Means) -> None:
    """The plan of each training that is to be made, as far as its model is known."""
    away = means.away
    for row in rows:
        stage = row.stage
        if row.status == "ready" or not isinstance(stage, Train) or stage.learner is None:
            continue
        config = stage.learner
        tokens = stage.total_rows * stage.max_seq_len
        planned = stage.planned(config, away)
        planner = planner_of(planned, means.named, stage.rows, means.utilisation, tokens)
        console.print(Text(headline(stage.reference, config, stage.max_seq_len), "bold"))
        there = chosen(planner, means, Layout.parse(means.layout), None)
        print_outlook(planner, there, means, tokens)
        if not there.fits or there.setting.layout.world > 1:
            print_ways(planner, there)
        for line in advice(config.n_params, stage.tokens_before, tokens):
            console.print(Text(f"  {line}", "dim"))


def headline(name: str, config: ModelConfig, time: int) -> str:
    """Name, parameters and operations."""
    return f"{name}: {human_count(config.n_params)} parameters, {human_count(config.flops_per_token(time))}FLOP per token in rows of {time}"


def print_outlook(planner: Planner, there: Outlook, means: Means, tokens: float) -> None:
    """Memory by kind with bars, then time and money."""
    world, setting = there.setting.layout.world, there.setting
    console.print(Text(f"{setting} on {world} × {means.machine or HERE}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("memory of a rank", no_wrap=True)
    places = there.places if len(there.places) <= 4 else (there.places[0], there.memory, there.places[-1])
    names = [f"stage {i}" for i in range(len(there.places))] if len(there.places) <= 4 else ["first stage", "fullest stage", "last stage"]
    for name in names if len(places) > 1 else [""]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    worst, room = there.memory, max(0, min(BAR, console.width - len("memory of a rank") - 12 * len(places)))
    for kind, most in worst.parts.items():
        cells = [human_bytes(place.parts[kind]) for place in places]
        table.add_row(Text(kind), *(Text(cell) for cell in cells), Text("█" * round(room * most / worst.total), "cyan"))
    style = "green" if there.fits else "red"
    filled = f"{there.memory.total / there.usable:.0%} of {human_bytes(there.usable)}"
    table.add_row(Text("together", "bold"), *(Text(human_bytes(place.total), "bold") for place in places), Text(filled, style))
    console.print(table)
    memory = human_bytes(planner.machine.memory)
    console.print(Text(f"at its worst in {worst.moment}; tensors are taken to have {USABLE:.0%} of a machine's {memory}", "dim"))
    if not there.fits:
        console.print(Text(f"does not fit: {planner.remedy(there)}", "red"))
    print_speed(planner, there, means, tokens)


def print_speed(planner: Planner, there: Outlook, means: Means, tokens: float) -> None:
    """Time and money."""
    speed, work, world = there.speed, planner.work, there.setting.layout.world
    hours = tokens / speed.tokens_per_s / 3600
    money = f"{hours * world:,.0f} machine-hours" if hours * world >= 10 else f"{human_seconds(3600 * hours * world)} of machines"
    if means.price is not None:
        cost = hours * world * means.price
        money += f", {cost:,.{0 if cost >= 100 else 2}f} at {means.price:g} an hour"
    length = f"{hours / 24:,.1f} days" if hours >= 48 else human_seconds(3600 * hours)
    console.print(Text(f"{human_count(speed.tokens_per_s)} tokens/s, {human_seconds(speed.step_s)} a step; {human_count(tokens)} tokens, "
                       f"{human_count(tokens * work.flops_per_token)}FLOP: {length}, {money}"))  # fmt: skip
    idle = f", {speed.bubble:.0%} of it idle at the ends of the pipeline" if speed.bubble else ""
    waits = f"; {human_seconds(speed.waiting_s)} of waiting for others" if speed.waiting_s else ""
    what = "having kernels called" if speed.launching_s >= speed.computing_s else "computing"
    console.print(Text(f"a step: {human_seconds(speed.computing_s)} of {what}{idle}{waits}; {speed.utilisation:.0%} of the peak in all, "
                       f"assuming {planner.utilisation:.0%} while nothing is waited for", "dim"))  # fmt: skip
    if speed.traffic:
        sent = ", ".join(f"{axis} {human_bytes(count)}" for axis, count in speed.traffic.items())
        console.print(Text(f"each rank sends in a step: {sent}", "dim"))


def print_ways(planner: Planner, there: Outlook) -> None:
    """Other settings of as many ranks, with reasons."""
    found = planner.alternatives(there)
    if not found:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("other ways", "memory", "step", "why"):
        table.add_column(heading, overflow="fold")
    for outlook, why in found:
        table.add_row(
            Text(str(outlook.setting)), Text(human_bytes(outlook.memory.total)), Text(human_seconds(outlook.speed.step_s)), Text(why),
        )  # fmt: skip
    console.print(table)

