"""The tasks of this house on real rows: each row can be asked, has a right answer, and no example is among what is asked."""

from __future__ import annotations

import pytest

from bloomery.cli.evaluate import tasks_of
from bloomery.evals.task import Prompted
from tests.house.sources import ROOT

pytestmark = pytest.mark.real
MC, P3 = "D_eval/clean_mc", "B_sft/t0_p3_per_template"
TASKS = [
    *(("arc", f"{MC}/{name}_val.jsonl", f"{MC}/{name}_train.jsonl") for name in ("arc_easy", "arc_challenge", "openbookqa", "csqa")),
    ("arc", f"{MC}/piqa_train.jsonl", ""),
    ("arc", f"{MC}/socialiqa_val.jsonl", ""),
    ("boolq", f"{MC}/boolq_val.jsonl", f"{MC}/boolq_train.jsonl"),
    ("science", "D_eval/kaggle_llm_science_exam/train_data_6k.csv", ""),
    ("gsm8k", "B_sft/gsm8k/train.jsonl", ""),
    ("passages", f"{P3}/adversarial_qa_dbert_based_on.jsonl", ""),
    ("summaries", f"{P3}/xsum_DOC_tldr.jsonl", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "shown"), TASKS, ids=lambda one: str(one).rpartition("/")[2])
def test_every_row_can_be_asked_and_has_a_right_answer(name, data, shown, real_data):
    dials = ["--data", str(real_data / data), *(["--shown", str(real_data / shown)] if shown else [])]
    (task,) = tasks_of([str(ROOT / "recipes" / "tasks" / f"{name}.py"), *dials])
    assert isinstance(task, Prompted)
    task = task if task.examples is None else task.replace(shots=3)
    asked, examples, _ = task.parts()
    assert len(examples) == task.shots
    for prompt in task.prompts:
        for row in (*asked, *examples):
            one = task.example(prompt, row)
            assert one.asked
            assert one.answer
