"""KTO beside its formula, and beside the library that has it where it is there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.contracts.objective_examples import TINY, Old

from bloomery.core.errors import ConfigError
from bloomery.data import Compared, Rows, Unpaired, Vocabulary
from bloomery.data.batch import Batch
from bloomery.data.source import Told
from bloomery.data.tasks import WORTH
from bloomery.models import save_hub
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import KTO, Models

GIVEN = [([1, 5, 9], [7, 8, 2], True), ([1, 3], [6, 2], False), ([1, 4, 4, 8], [3, 2], True), ([1, 9, 5], [4, 6, 6, 2], False)]
"""(prompt, completion, whether it is good)"""


class Ids(Vocabulary):
    """What the task asks of a vocabulary."""

    def __init__(self) -> None:
        self.begin, self.end, self.pad = 1, 2, 0


def judged(given=GIVEN, time: int = 32) -> Batch:
    rows, told, at = Rows.empty(1, time, 0), Told(*(np.zeros((1, time), np.float32) for _ in Told._fields)), 0
    for number, (prompt, completion, good) in enumerate(given, start=1):
        ids = [*prompt, *completion]
        here, said = slice(at, at + len(ids)), slice(at + len(prompt), at + len(ids))
        rows.tokens[0, here], rows.segments[0, here], rows.loss_weight[0, here] = ids, number, [1] * (len(ids) - 1) + [0]
        told.targets[0, said], told.weight[0, said], at = float(good), 1, at + len(ids)
    return Unpaired().batch(rows._replace(labels={WORTH: told}), 0, 0, Ids())


def gained(models: Models, prompt: list[int], completion: list[int]) -> float:
    """log(π/π_ref) of a completion, read by itself."""
    ids = torch.tensor([[*prompt, *completion]])

    def of(model) -> float:
        p = torch.log_softmax(model(ids, SequenceLayout.rows(*ids.shape))[0], -1)
        return float(p[:-1].gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum().detach())

    return of(models.policy) - of(models.frozen[Old().address])


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(TINY.build(seed=0).double(), {Old().address: TINY.build(seed=1).double()})


@pytest.mark.parametrize("good", [1.0, 2.0])
def test_kto_is_its_formula(models, good):
    (found,) = KTO(reference=Old(), beta=3.0, good=good)(models, judged())
    others = [GIVEN[-1], *GIVEN[:-1]]
    z0 = max(0.0, sum(gained(models, prompt, other) for (prompt, _, _), (_, other, _) in zip(GIVEN, others, strict=True)) / 4)
    wanted = 0.0
    for prompt, completion, is_good in GIVEN:
        h = 3.0 * (gained(models, prompt, completion) - z0) * (1 if is_good else -1)
        wanted += (good if is_good else 1.0) * (1 - 1 / (1 + math.exp(-h)))
    assert found.weight == 4
    assert float(found.total.detach()) == pytest.approx(wanted, rel=1e-6)
    assert float(found.metrics["z0"]) / 4 == pytest.approx(z0, rel=1e-6)


def test_no_gradient_goes_through_what_others_have_gained(models):
    # of a row in which what others say is likelier than before, so that z0 counts
    turned = Models(models.frozen[Old().address], {Old().address: models.policy})
    found = [kto(m, judged())[0] for m in (models, turned) for kto in (KTO(reference=Old()),)]
    assert max(float(one.metrics["z0"]) for one in found) > 0
    which = (models, turned)[int(float(found[1].metrics["z0"]) > 0)]
    weight = next(iter(which.policy.parameters()))
    (grad,) = torch.autograd.grad(KTO(reference=Old())(which, judged())[0].total, weight)
    step, moved = 1e-6, 0.0
    batch = judged()
    direction = grad / grad.norm()
    with torch.no_grad():
        for sign in (1, -1):
            weight += sign * step * direction
            moved += sign * float(KTO(reference=Old())(which, batch)[0].total) / (2 * step)
            weight -= sign * step * direction
    assert abs(moved - float(grad.norm())) > 1e-6  # the value moves with z0 as well, and the gradient does not know


def test_one_document_has_nothing_to_be_compared_with(models):
    (found,) = KTO(reference=Old())(models, judged(GIVEN[:1]))
    assert found.weight == 1
    assert float(found.metrics["z0"]) == 0


def test_what_has_no_verdicts_is_refused():
    with pytest.raises(ConfigError, match="take rows of Verdicts"):
        KTO(reference=Old()).check_training(TINY, Compared())
    with pytest.raises(ConfigError, match="nothing to learn"):
        KTO(reference=Old(), good=0.0, bad=0.0)


@pytest.mark.parametrize("turned", [False, True])
def test_as_trl_has_it(turned, tmp_path):
    trl = pytest.importorskip("trl", reason="needs trl, the peer that the loss is compared with: pip install trl")
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    policy, before = (TINY.build(seed=int(seed != turned)) for seed in (0, 1))
    for name, model in (("policy", policy), ("before", before)):
        save_hub(model, TINY, tmp_path / name)
    peers = [AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32) for name in ("policy", "before")]
    words = Tokenizer(WordLevel({str(i): i for i in range(32)}, "0"))
    arguments = trl.KTOConfig(
        output_dir=str(tmp_path / "out"), beta=0.7, desirable_weight=1.3, undesirable_weight=0.8, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to=[], disable_tqdm=True, per_device_train_batch_size=4,
    )  # fmt: skip
    trainer = trl.KTOTrainer(
        model=peers[0].eval(), ref_model=peers[1], args=arguments,
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="2"),
        train_dataset=Dataset.from_list([{"prompt": "1", "completion": str(i), "label": bool(i % 2)} for i in range(3, 7)]),
    )  # fmt: skip

    def padded(prefix: str, documents) -> dict[str, torch.Tensor]:
        time = max(len(a) + len(b) for a, b in documents)
        ids = torch.tensor([[*a, *b] + [0] * (time - len(a) - len(b)) for a, b in documents])
        place = torch.arange(time)
        begins, ends = (torch.tensor(one)[:, None] for one in ([len(a) for a, _ in documents], [len(a) + len(b) for a, b in documents]))
        return {f"{prefix}input_ids": ids, f"{prefix}attention_mask": (place < ends).long(),
                f"{prefix}completion_mask": ((place >= begins) & (place < ends)).long()}  # fmt: skip

    of_others = [(prompt, GIVEN[i - 1][1]) for i, (prompt, _, _) in enumerate(GIVEN)]
    inputs = {**padded("", [(a, b) for a, b, _ in GIVEN]), **padded("KL_", of_others), "label": torch.tensor([good for *_, good in GIVEN])}
    theirs = trainer.compute_loss(trainer.model.eval(), inputs)
    (found,) = KTO(reference=Old(), beta=0.7, good=1.3, bad=0.8)(Models(policy.eval(), {Old().address: before.eval()}), judged())
    assert float(found.total / found.weight) == pytest.approx(float(theirs), abs=1e-6)
