"""Time, traffic, other ways and remedies."""

from dataclasses import replace
from functools import cache
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.mesh import AXES, Layout
from bloomery.models import LlamaConfig, MixtralConfig
from bloomery.models.presets import preset
from bloomery.optim import Muon
from bloomery.planning.anatomy import between
from bloomery.planning.machines import MACHINES, machine
from bloomery.planning.outlook import Planner, Setting
from bloomery.planning.speed import bandwidth, speed
from bloomery.stages.anatomy import Planned, anatomy_of
from bloomery.stages.planner import COMPILED, planner_of, usual
from bloomery.train.recompute import Recompute

CONFIG = LlamaConfig(vocab_size=4096, d_model=512, n_layers=8, n_heads=8, max_seq_len=256)
MIB = 1 << 20
PLANNED = Planned(config=CONFIG, time=256)
ANATOMY = cache(lambda rows, keeps: anatomy_of(PLANNED, rows, keeps))


@cache
def planner(memory: int = 80 << 30, utilisation: float = 0.5) -> Planner:
    made = planner_of(PLANNED, machine("h100").replace(memory=memory, launch=0.0), 64, utilisation)
    return replace(made, anatomy=ANATOMY)


def of(layout: Layout, micro_batch: int = 1, **changes) -> Setting:
    return Setting(layout=layout, micro_batch=micro_batch, **changes)


def test_anatomies_between_one_and_two_rows_go_on_as_they_began():
    one, two, four = (anatomy_of(Planned(config=CONFIG.replace(n_layers=2), time=64), rows) for rows in (1, 2, 4))
    told = between(one, two, 4)
    assert told.first[1].forward == four.first[1].forward
    assert told.first[3].backward.left == four.first[3].backward.left
    assert told.seam == four.seam


@given(st.sampled_from([Layout(), Layout(shard=8), Layout(tensor=4), Layout(pipeline=4), Layout(replicate=8), Layout(context=2, shard=2)]))
@settings(max_examples=20, deadline=None)
def test_a_step_takes_its_operations_at_the_rate_that_is_assumed_and_what_is_waited_for(layout):
    there = planner().speed(of(layout))
    flops = 64 * 256 * CONFIG.flops_per_token(256) / layout.world
    assert there.computing_s * (1 - there.bubble) == pytest.approx(flops / (0.5 * 66.9e12))
    assert there.step_s == pytest.approx(there.computing_s + there.waiting_s)
    assert there.utilisation == pytest.approx(flops / 66.9e12 / there.step_s)
    assert there.tokens_per_s == pytest.approx(64 * 256 / there.step_s)
    assert set(there.traffic) == {axis for axis in AXES if getattr(layout, axis) > 1}


def test_pipelines_wait_as_their_schedules_say():
    plain, woven = (planner().speed(of(Layout(pipeline=4, **more))).bubble for more in ({}, {"schedule": "interleaved", "stages": 2}))
    assert plain == 3 / (64 + 3)
    assert woven == 3 / (128 + 3)


def test_recomputing_costs_a_forward_pass():
    without, half = (planner().speed(of(Layout(), recomputed=count)).computing_s for count in (0, 4))
    assert half / without == pytest.approx(1 + 1 / 6)


def test_zero_three_gathers_weights_twice_per_micro_batch_and_adds_up_gradients_once():
    there, weights = planner().speed(of(Layout(shard=4), micro_batch=2)), 4 * CONFIG.n_params
    assert there.traffic["shard"] == pytest.approx(8 * 3 * weights * 3 / 4)  # 64 / 4 rows in micro-batches of 2
    assert planner().speed(of(Layout(shard=4, zero=1), micro_batch=2)).traffic["shard"] == pytest.approx(2 * weights * 3 / 4)


def test_axes_are_slow_where_they_leave_the_node():
    h100 = machine("h100")
    assert bandwidth("tensor", Layout(tensor=8, shard=8), h100) == h100.near
    assert bandwidth("shard", Layout(tensor=8, shard=8), h100) == h100.far
    assert bandwidth("shard", Layout(tensor=2, shard=4), h100) == h100.near


def test_every_layout_of_a_world_is_one_that_can_be():
    found = list(planner().layouts(8))
    assert len(found) == len(set(map(str, found)))
    assert all(layout.world == 8 and not planner().refusal(layout) for layout in found)
    assert {prod((layout.context, layout.tensor)) for layout in found} == {1, 2, 4, 8}


def test_experts_are_laid_out_too():
    config = MixtralConfig(vocab_size=512, d_model=64, n_layers=2, n_heads=4, d_ff=128, n_experts=4, n_active=2, max_seq_len=64)
    made = planner_of(Planned(config=config, time=64), machine("h100"), 64)
    found = list(made.layouts(8))
    assert {layout.expert for layout in found} == {1, 2, 4}  # 8 ranks cannot share 4 experts
    assert all(layout.expert in (1, layout.holders) and not made.refusal(layout) for layout in found)
    assert all(layout.expert == 1 for layout in planner().layouts(8))
    leanest = min((made.outlook(of(layout)) for layout in found if layout.pipeline == 1), key=lambda outlook: outlook.memory.total)
    assert leanest.setting.layout.expert > 1 or leanest.setting.layout.tensor > 1


def test_a_tiny_model_takes_the_time_that_its_kernels_take_to_be_called():
    tiny = LlamaConfig(vocab_size=1280, d_model=128, n_layers=4, n_heads=4, d_ff=352, max_seq_len=512)
    made = planner_of(Planned(config=tiny, time=256, optimizer=Muon(), guarded=True), machine("h100"), 8)
    there = made.speed(of(Layout(), 8))
    assert 87_600 / 2 < there.tokens_per_s < 87_600 * 2  # measured on an H100: docs/log.md
    assert there.computing_s == there.launching_s
    assert made.speed(of(Layout(), 4)).tokens_per_s < there.tokens_per_s
    assert made.speed(of(Layout(), 8, recomputed=4)).launching_s > there.launching_s
    compiled = planner_of(Planned(config=tiny, time=256, optimizer=Muon(), guarded=True), machine("h100"), 8, tokens=1e12)
    assert compiled.speed(of(Layout(), 8)).launching_s == pytest.approx(COMPILED * there.launching_s)


def test_what_comes_back_from_the_hosts_memory_is_waited_for():
    away = planner_of(replace(PLANNED, offload=frozenset({"optimizer"})), machine("h100"), 64)
    there, state = away.speed(of(Layout())), 8 * CONFIG.n_params
    assert there.traffic["host"] == pytest.approx(state, rel=0.01)
    assert there.waiting_s == pytest.approx(state / away.machine.host, rel=0.01)


def test_what_fits_comes_fastest_first():
    found = list(planner().fitting(8))
    times = [outlook.speed.step_s for outlook in found]
    assert times == sorted(times)
    assert all(outlook.fits for outlook in found)


def test_other_ways_fit_differ_and_are_each_the_best_in_theirs():
    there = planner().outlook(of(Layout(shard=8)))
    (fastest, _), (simplest, _), (leanest, why) = planner().alternatives(there)
    layouts = {str(outlook.setting.layout) for outlook in (there, fastest, simplest, leanest)}
    assert len(layouts) == 4
    every = list(planner().fitting(8))
    assert fastest.speed.step_s == min(outlook.speed.step_s for outlook in every if outlook.setting.layout != there.setting.layout)
    taken = {str(outlook.setting.layout) for outlook in (there, fastest, simplest)}
    assert leanest.memory.total == min(outlook.memory.total for outlook in every if str(outlook.setting.layout) not in taken)
    assert "leanest" in why


def test_a_remedy_fits_and_changes_as_little_as_can_be():
    tight = planner(memory=260 * MIB)
    there = tight.outlook(of(Layout(shard=2)))
    assert not there.fits
    said = tight.remedy(there)
    assert "weights" in said
    assert f"= {there.memory.total / MIB:.3g} MiB" in said
    assert "would need" in said
    assert "nothing fits on 2" in said


def test_the_nearest_remedy_is_half_the_micro_batch_or_recomputing_where_there_is_nothing_to_halve():
    whole = [planner().outlook(of(Layout(), rows)).memory.total for rows in (1, 8)]
    tight = planner(memory=round(whole[1]))
    assert "one rank, micro-batches of 4 would need" in tight.remedy(tight.outlook(of(Layout(), 8)))  # and it costs no time
    tight = planner(memory=round(whole[0]))
    assert "one rank, micro-batches of 1, 8 blocks recomputed would need" in tight.remedy(tight.outlook(of(Layout(), 1)))


@pytest.mark.slow
def test_where_nothing_helps_it_is_said():
    hopeless = planner(memory=MIB)
    assert "take a machine with more memory" in hopeless.remedy(hopeless.outlook(of(Layout())))


@pytest.mark.parametrize(("layout", "words"), [
    (Layout(shard=3), "64 rows .* are not shared evenly"), (Layout(tensor=16), "n_kv_heads=8"),
    (Layout(pipeline=16), "16 stages for n_layers=8"),
])  # fmt: skip
def test_layouts_that_cannot_be_are_refused_by_what_would_refuse_the_run(layout, words):
    with pytest.raises(ConfigError, match=words):
        usual(planner(), layout)


def test_what_is_computed_again_is_planned_as_the_run_would_do_it():
    found = {text: usual(planner(), Layout(), 8, Recompute.parse(text)) for text in ("none", "selective", "full", "300MiB")}
    totals = {text: planner().outlook(setting).memory.total for text, setting in found.items()}
    assert totals["full"] < totals["300MiB"] < totals["none"]
    assert totals["full"] < totals["selective"] < totals["none"]
    assert 0 < found["300MiB"].recomputed < found["full"].recomputed == CONFIG.n_layers
    assert "all but products recomputed" in str(found["selective"])
    with pytest.raises(ConfigError, match="more than the budget of 1048576; lower --micro-batch, or give"):
        usual(planner(), Layout(), 8, Recompute.parse("1MiB"))


def test_a_machine_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'h100'"):
        machine("h1000")
    assert all(one.near >= one.far for one in MACHINES.values())


def test_ten_billion_parameters_are_planned_for_64_ranks():
    made = planner_of(Planned(config=preset("10b"), time=512, precision="bf16"), machine("h100"), 1024)
    there = next(made.fitting(64))
    assert there.fits
    assert there.setting.layout.world == 64
    assert speed(made.work, made.of(1), Layout(shard=64), made.machine, 0.5).tokens_per_s > 0
