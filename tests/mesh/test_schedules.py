"""Pipeline schedules as plain lists: complete, free of deadlock, and no more activations in flight than they promise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout
from bloomery.mesh.schedules import Action, schedule


def played(actions: list[list[Action]], stages: int) -> list[Action]:
    """Lets all ranks do their lists, each action once what it waits for is done; the order in which they could be done."""
    done: list[Action] = []
    waiting = [list(of_rank) for of_rank in actions]
    while any(waiting):
        ready = [of_rank for of_rank in waiting if of_rank and needs(of_rank[0], stages) <= set(done)]
        assert ready, f"deadlock: everyone waits, {[of_rank[:1] for of_rank in waiting]}"
        done += [of_rank.pop(0) for of_rank in ready]
    return done


def needs(action: Action, stages: int) -> set[Action]:
    what, stage, micro = action
    if what == "forward":
        return {Action("forward", stage - 1, micro)} if stage else set()
    return {Action("forward", stage, micro)} | ({Action("backward", stage + 1, micro)} if stage < stages - 1 else set())


@given(st.sampled_from(["gpipe", "1f1b", "interleaved"]), st.integers(2, 6), st.integers(2, 4), st.integers(1, 6))
def test_every_pass_is_done_once_and_nobody_waits_for_ever(name, ranks, stages, rounds):
    stages = stages if name == "interleaved" else 1
    micro_batches = rounds * ranks if name == "interleaved" else rounds
    done = played([schedule(name, rank, ranks, stages, micro_batches) for rank in range(ranks)], ranks * stages)
    passes = [(stage, micro) for stage in range(ranks * stages) for micro in range(micro_batches)]
    expected = [Action(what, *place) for what in ("forward", "backward") for place in passes]
    assert sorted(done) == sorted(expected)


@given(st.integers(2, 6), st.integers(1, 12))
def test_one_forward_one_backward_keeps_no_more_than_the_ranks_behind(ranks, micro_batches):
    for rank in range(ranks):
        held = most = 0
        for action in schedule("1f1b", rank, ranks, 1, micro_batches):
            held += 1 if action.what == "forward" else -1
            most = max(most, held)
        assert most == min(micro_batches, ranks - rank)


def test_layouts_name_ranks_one_to_one():
    layout = Layout(pipeline=2, replicate=3, shard=2, tensor=2)
    assert layout.world == 24
    assert [layout.rank(layout.coordinates(rank)) for rank in range(24)] == list(range(24))
    assert layout.coordinates(1)["tensor"] == 1
    assert Layout.parse("pipeline=2, replicate=3,shard=2,tensor=2") == layout
    assert Layout.parse("") == Layout.parse("", world=1) == Layout()


def test_an_axis_can_be_what_is_left_of_the_world():
    assert Layout.parse("", world=4) == Layout(replicate=4)
    assert Layout.parse("shard=auto,tensor=2", world=8) == Layout(shard=4, tensor=2)
    with pytest.raises(ConfigError, match="6 ranks are not a multiple of the 4 of the other axes, which shard=auto needs"):
        Layout.parse("shard=auto,tensor=4", world=6)


@pytest.mark.parametrize(("text", "what"), [
    ("expert=3", "is neither 1 nor shard · context · tensor = 1"),
    ("pipeline=2,stages=2", "does not go with schedule='1f1b'"),
    ("schedule=interleaved,stages=2", "needs a pipeline to interleave"),
    ("tensor", "'tensor' is no NAME=VALUE"),
    ("tensor=auto", "how many ranks there will be is not known here, so that nothing can be left for tensor=auto"),
    ("tensors=2", "did you mean 'tensor'"),
    ("tensor=0", "greater than or equal to 1"),
])  # fmt: skip
def test_what_is_no_layout_is_told_in_one_sentence(text, what):
    with pytest.raises(ConfigError, match=what):
        Layout.parse(text)
