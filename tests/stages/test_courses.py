"""Courses of continued training from one base, side by side."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import LlamaConfig
from bloomery.optim import Everything, LastLayers
from bloomery.stages.courses import After, Course, Courses, Line, Page
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.store import Store, read_json
from bloomery.text.readers import TaleStories
from bloomery.text.tales import Tales

MODEL = LlamaConfig(vocab_size=320, d_model=16, n_layers=2, n_heads=2, d_ff=32, max_seq_len=64)


@pytest.fixture(scope="module")
def made() -> Courses:
    sides = {
        name: Prepare(name=name, source=TaleStories(tales=Tales(size="tiny", domain=domain), count=40), held_out=0.3)
        for name, domain in (("old", "farm"), ("new", "harbour"))
    }  # fmt: skip
    tokenizer = TrainTokenizer(corpora=(sides["old"],), vocab_size=300)
    read = {name: Tokenize(name=name, corpus=one, tokenizer=tokenizer) for name, one in sides.items()}
    unread = {name: Tokenize(name=f"{name}_unread", corpus=one, tokenizer=tokenizer, split="held_out") for name, one in sides.items()}
    watch = Watch(held_out=tuple(unread.values()), every=1)
    base = Train(
        name="base", tokenizer=tokenizer, init=Scratch(model=MODEL), sources=(Share(tokens=read["old"]),), max_seq_len=64, batch_tokens=128,
        steps=2, watch=watch, keeps="optimizer",
    )  # fmt: skip
    new = (Share(tokens=read["new"]),)
    top = base.then(name="top", sources=new, trainable=LastLayers(count=1), steps=3, keeps="optimizer")
    courses = (
        Course(name="phased", phases=(top, top.then(name="all", trainable=Everything(), steps=2))),
        Course(name="at_once", phases=(base.then(name="once", sources=new, steps=1),)),
    )  # fmt: skip
    return Courses(title="Courses", base=base, courses=courses, old=unread["old"], new=unread["new"])


def test_the_table_is_what_each_phase_measured_and_tokens_add_up(made, tmp_path):
    torch.set_num_threads(1)
    context = RunContext(store=Store(tmp_path), quiet=True, trackers=())
    artifact = made.run(context)
    results = read_json(artifact.path / "results.json")
    for course in made.courses:
        told = results["courses"][course.name]
        tokens = 0
        for phase, after in zip(course.phases, told["phases"], strict=True):
            summary = phase.run(context).manifest.summary
            tokens += phase.steps * 128
            assert after["tokens"] == tokens
            for side in ("old", "new"):
                assert after[side] == pytest.approx(summary[f"held_out/{side}_unread/bits_per_byte"], abs=1e-6)
        assert [at for at, *_ in told["path"]] == [128 * step for step in range(tokens // 128 + 1)]
    text = (artifact.path / "courses.txt").read_text()
    assert "trainable=LastLayers(count=1)" in text
    assert "what is known of sizes begins at" in text


def test_a_line_says_what_the_old_pays_for_the_new():
    base, end = After("base", "", 0, 2.0, 3.0), After("all", "as it is", 512, 2.1, 2.5)
    page = Page("Title", base, [Line("replay", [end], [(0, 2.0, 3.0), (512, 2.1, 2.5)])], ["grow"])
    assert page.conclusions() == ["replay: +0.200 bits per byte of the old for each of the new", "grow"]
    assert ("replay", "all", "512", "2.1000", "+0.1000", "2.5000", "-0.5000", "as it is") in page.rows()
    worse = Line("worse", [After("all", "", 512, 2.1, 3.0)], [])
    assert Page("Title", base, [worse], []).conclusions() == ["worse: nothing learnt of the new"]


def test_what_each_has_read_before_counts_through_the_phases(made):
    top, rest = made.courses[0].phases
    assert (made.base.tokens_before, top.tokens_before, rest.tokens_before) == (0, 256, 256 + 384)


def test_phases_that_do_not_follow_or_do_not_measure_are_refused(made):
    _, rest = made.courses[0].phases
    with pytest.raises(ConfigError, match=r"all of phased does not go on from base; take base.then"):
        made.replace(courses=(Course(name="phased", phases=(rest,)),))
    blind = made.base.then(name="blind", steps=1, watch=Watch())
    with pytest.raises(ConfigError, match="blind does not measure old_unread; put it into its watch.held_out"):
        made.replace(courses=(Course(name="blind", phases=(blind,)),))
