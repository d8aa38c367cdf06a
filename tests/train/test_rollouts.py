"""Rows that the policy writes: what they hold, that nothing but seed, row and weights decides them, and that rounds outlive a kill."""

from types import SimpleNamespace

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Each, Packed
from bloomery.generate import Random
from bloomery.mesh import ALONE
from bloomery.models import LlamaConfig
from bloomery.objectives import Distil, JensenShannon, Models
from bloomery.objectives.frozen import Frozen
from bloomery.optim import Batches
from bloomery.train.engines.engine import AT_ONCE
from bloomery.train.healing import Ledger
from bloomery.train.rollouts import Rollout, Rollouts, check_rollout
from tests.data.corpora import make_shards

TIME, ROWS, END = 12, 6, 1
MODEL = LlamaConfig(vocab_size=96, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=TIME)


class World:
    """A policy, a source of prompts, and steps that change the weights as training would."""

    def __init__(self, folder, masked=False, **changes) -> None:
        self.shards = make_shards(folder / "shards", [5, 9, 14, 7, 20, 3, 8], masked=masked, vocab_size=90)
        self.rollout = Rollout(**{"prompt_tokens": None if masked else 3, "max_new_tokens": 8} | changes)
        self.folder = folder / "rollouts"
        self.state = SimpleNamespace(model=MODEL.build(0), step=0, known=Ledger(), holding=SimpleNamespace(mesh=ALONE))

    def source(self, rows=ROWS) -> Rollouts:
        prompts = Packed(self.shards, Each(), time=TIME, seed=1)
        return Rollouts(prompts, self.rollout, self.state, Batches(rows), ends=END, pad=0, vocab_size=80, seed=3, folder=self.folder)

    def step(self) -> None:
        self.state.step += 1
        self.state.model = MODEL.build(self.state.step)


def same(a, b, to=0.0) -> bool:
    """Whether two batches hold the same rows, their log-probabilities to some rounding."""
    pairs = [(x.tokens, x.targets, x.loss_weight, x.layout.segments, x.samples.prompts, x.samples.ages) for x in (a, b)]
    close = torch.allclose(a.samples.logprobs, b.samples.logprobs, rtol=0, atol=to)
    return close and all(torch.equal(one, other) for one, other in zip(*pairs, strict=True))


@pytest.mark.parametrize("masked", [False, True])
def test_rows_are_prompts_and_what_the_policy_wrote_to_them(tmp_path, masked):
    world = World(tmp_path, masked)
    source = world.source()
    batch, prompts = source.batch(0, ROWS), source.source.batch(0, ROWS)
    logprobs = torch.log_softmax(world.state.model(batch.tokens, batch.layout), -1)[..., :80]
    logprobs = logprobs - logprobs.logsumexp(-1, keepdim=True)  # ids beyond the tokenizer's are never drawn
    of_targets = logprobs.gather(-1, batch.targets.clamp(max=79)[..., None]).squeeze(-1)
    for i in range(ROWS):
        learnt = batch.loss_weight[i].nonzero().flatten()
        read = [int(place) + 1 for place in prompts.loss_weight[i].nonzero()][:1] if masked else [3]
        begin = min(*read, int((prompts.layout.segments[i] > 0).sum()), TIME - 1) - 1
        assert learnt.tolist() == list(range(begin, begin + len(learnt)))
        assert batch.tokens[i, : begin + 1].tolist() == prompts.tokens[i, : begin + 1].tolist()
        assert batch.tokens[i, learnt[1:]].tolist() == batch.targets[i, learnt[:-1]].tolist()
        stopped = int(batch.targets[i, learnt[-1]]) == END
        assert stopped or len(learnt) == min(8, TIME - begin - 1)
        assert END not in batch.targets[i, learnt[:-1]]
        assert torch.allclose(batch.samples.logprobs[i, learnt], of_targets[i, learnt], atol=1e-5)
        assert int((batch.layout.segments[i] > 0).sum()) == begin + len(learnt)
    assert not batch.samples.logprobs[batch.loss_weight == 0].any()


def test_neither_the_batch_nor_who_asks_changes_a_row(tmp_path):
    world = World(tmp_path)
    whole = world.source().batch(0, ROWS)
    for first, part in zip(range(0, ROWS, 2), whole.split(2), strict=True):
        assert same(world.source(2).batch(first, 2), part, to=1e-5)
    assert not same(World(tmp_path / "other", sampler=Random(temperature=5.0)).source().batch(0, ROWS), whole)


def test_samples_of_a_prompt_follow_each_other_and_differ(tmp_path):
    source = World(tmp_path, samples=3).source()
    batch = source.batch(0, ROWS)
    assert batch.samples.prompts.tolist() == [0, 0, 0, 1, 1, 1]
    assert len({tuple(row) for row in batch.tokens[:3, :3].tolist()}) == 1
    assert len({tuple(row) for row in batch.tokens[:3].tolist()}) > 1
    ids = [span.id for span in source.documents(0, ROWS)]
    assert ids[0] == ids[1] == ids[2] != ids[3] == ids[4] == ids[5]
    assert [span.row for span in source.documents(0, ROWS)] == list(range(ROWS))


def test_each_step_is_written_by_the_policy_of_its_round(tmp_path):
    fresh, aged = World(tmp_path / "a"), World(tmp_path / "b", every=2)
    sources = [world.source() for world in (fresh, aged)]
    for step in range(4):
        batches = [source.batch(step * ROWS, ROWS) for source in sources]
        assert [set(batch.samples.ages.tolist()) for batch in batches] == [{0}, {step % 2}]
        assert torch.equal(batches[0].tokens, batches[1].tokens) == (step % 2 == 0)
        fresh.step(), aged.step()
    assert not fresh.folder.exists()


@pytest.mark.parametrize("every", [1, 3])
def test_a_source_made_anew_at_any_step_goes_on_with_the_same_rows(tmp_path, every):
    def course(name, killed_at=()):
        world, batches = World(tmp_path / name, every=every), []
        source = world.source()
        for step in range(5):
            if step in killed_at:
                source = world.source()
            batches.append(source.batch(step * ROWS, ROWS))
            world.step()
        return batches

    assert all(map(same, course("straight"), course("killed", killed_at=(1, 2, 3, 4))))


def test_rounds_that_no_step_reads_any_more_are_let_go_of(tmp_path):
    world = World(tmp_path, every=2)
    source = world.source()
    for step in range(6):
        source.batch(step * ROWS, ROWS)
        world.step()
    there = lambda: sorted(int(path.stem) for path in world.folder.iterdir())  # noqa: E731
    assert there() == [0, 2 * ROWS, 4 * ROWS]
    source.forget(3)  # the second round has its rows, too
    assert there() == [2 * ROWS, 4 * ROWS]
    world.state.step = 3
    kept = source.batch(3 * ROWS, ROWS)
    assert same(world.source().batch(3 * ROWS, ROWS), kept)
    source.forget(4)
    assert there() == [4 * ROWS]


def test_a_round_of_a_later_policy_is_not_taken_from_the_disk(tmp_path):
    world = World(tmp_path, every=2)
    world.step(), world.step()
    later = world.source().batch(2 * ROWS, ROWS)
    world.state.step, world.state.model = 1, MODEL.build(1)  # gone on from an older checkpoint, whose rows are further on
    again = world.source().batch(2 * ROWS, ROWS)
    assert again.samples.ages.tolist() == [0] * ROWS
    assert not torch.equal(again.tokens, later.tokens)


def test_rows_beyond_those_that_are_written_together_are_of_their_own_streams(tmp_path):
    world, rows = World(tmp_path), AT_ONCE + 5
    assert same(world.source(3).batch(rows - 3, 3), list(world.source(rows).batch(0, rows).split(rows - 3))[1], to=1e-5)


class Given(Frozen):
    """A teacher for a test."""

    name: str = "teacher"
    """Of it."""


def test_a_teacher_is_asked_where_the_student_wrote(tmp_path):
    batch, teacher, objective = World(tmp_path).source().batch(0, ROWS), Given(), Distil(teacher=Given(), divergence=JensenShannon())
    models = Models(MODEL.build(0), {teacher.address: MODEL.build(5)})
    whole, *_ = objective(models, batch)
    parts = [objective(models, part)[0] for part in batch.split(2)]
    assert whole.weight == batch.weight == sum(part.weight for part in parts)
    assert torch.allclose(whole.total, sum(part.total for part in parts), rtol=1e-5)
    assert float(whole.total.detach()) > 0


def test_what_cannot_be_written_is_refused():
    with pytest.raises(ConfigError, match="more than a row"):
        check_rollout(Rollout(prompt_tokens=8, max_new_tokens=6), 12, reads_prompts=False)
    with pytest.raises(ConfigError, match="nothing says where a prompt ends"):
        check_rollout(Rollout(max_new_tokens=6), 12, reads_prompts=False)
    check_rollout(Rollout(max_new_tokens=6), 12, reads_prompts=True)
