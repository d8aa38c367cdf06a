"""Losses of pairs beside their closed forms, pair by pair, and beside the library that has them where it is there."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contracts.objective_examples import EXAMPLES, TINY, Old, paired

from bloomery.data.batch import Batch
from bloomery.models import save_hub
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import DPO, IPO, ORPO, BradleyTerry, Models, SimPO


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def worth(model, batch, mean: bool) -> list[tuple[float, float]]:
    """log π of both sides of each pair, each document read by itself."""
    found = []
    for row in range(len(batch)):
        segments, of_row = batch.layout.segments[row], []
        for number in range(1, int(segments.max()) + 1):
            here = segments == number
            tokens, targets, weight = (one[row][here] for one in (batch.tokens, batch.targets, batch.loss_weight))
            with torch.no_grad():
                p = torch.log_softmax(model(tokens[None], SequenceLayout.rows(1, len(tokens)))[0], -1)
            of_row.append(float(p.gather(1, targets[:, None])[weight > 0].sum() / (weight > 0).sum() ** mean))
        found += list(zip(of_row[::2], of_row[1::2], strict=True))
    return found


def loss_of(kind, **changes) -> tuple[float, list[tuple[float, float]], list[tuple[float, float]], float]:
    """A loss of the example's batch, log π and log π_ref of its pairs, and its weight; in float64."""
    torch.manual_seed(0)
    objective, batch = EXAMPLES[kind].objective.replace(**changes), paired()
    policy, before = TINY.build(seed=0).double(), TINY.build(seed=1).double()
    models = Models(policy, {Old().address: before})
    (found,) = objective(models, batch)
    mean = objective.length == "mean"
    return float(found.total), worth(policy, batch, mean), worth(before, batch, mean), found.weight


def differences(ours, before) -> list[float]:
    return [(b - rb) - (w - rw) for (b, w), (rb, rw) in zip(ours, before, strict=True)]


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("length", ["sum", "mean"])
def test_dpo(length, epsilon):
    total, ours, before, weight = loss_of(DPO, beta=0.3, label_smoothing=epsilon, length=length)
    wanted = sum(-(1 - epsilon) * math.log(sigmoid(0.3 * h)) - epsilon * math.log(sigmoid(-0.3 * h)) for h in differences(ours, before))
    assert total == pytest.approx(wanted, rel=1e-6)
    assert weight == len(ours) == 6


def test_dpo_that_is_tuned_on_the_better_sides_as_well():
    total, ours, before, _ = loss_of(DPO, beta=0.3, tuning=0.2)
    plain = loss_of(DPO, beta=0.3)[0]
    assert total == pytest.approx(plain - 0.2 * sum(b - rb for (b, _), (rb, _) in zip(ours, before, strict=True)), rel=1e-6)


def test_ipo():
    total, ours, before, _ = loss_of(IPO, beta=0.2)
    assert total == pytest.approx(sum((h - 2.5) ** 2 for h in differences(ours, before)), rel=1e-6)


def test_simpo():
    total, ours, _, _ = loss_of(SimPO, beta=2.0, margin=0.5)
    assert total == pytest.approx(sum(-math.log(sigmoid(2 * (b - w) - 0.5)) for b, w in ours), rel=1e-6)


def test_orpo():
    total, ours, _, _ = loss_of(ORPO, strength=0.4)

    def odds(p):
        return p - math.log(1 - math.exp(p))

    assert total == pytest.approx(sum(-b - 0.4 * math.log(sigmoid(odds(b) - odds(w))) for b, w in ours), rel=1e-6)


def test_bradley_terry():
    example, batch = EXAMPLES[BradleyTerry], paired()
    model = example.model.build(seed=0)
    (found,) = BradleyTerry(head="stars", margin=0.2, centring=0.1)(Models(model), batch)
    rewards = []
    for row in range(len(batch)):
        segments = batch.layout.segments[row]
        for number in range(1, int(segments.max()) + 1):
            tokens = batch.tokens[row][segments == number][None]
            with torch.no_grad():
                rewards.append(float(model.scores(tokens, SequenceLayout.rows(*tokens.shape))["stars"][0, 0, 0]))
    pairs = list(zip(rewards[::2], rewards[1::2], strict=True))
    assert float(found.total) == pytest.approx(sum(-math.log(sigmoid(b - w - 0.2)) + 0.1 * (b + w) ** 2 for b, w in pairs), rel=1e-5)
    assert float(found.metrics["stars/right"]) == sum(b > w for b, w in pairs)


def test_the_reference_takes_no_gradient_and_the_policy_does():
    example = EXAMPLES[DPO]
    models = example.models()
    (found,) = example.objective(models, paired())
    found.total.backward()
    assert all(p.grad is None for p in models.of(example.objective.reference).parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in models.policy.parameters())


def test_at_the_reference_itself_the_loss_is_that_of_a_coin():
    (found,) = DPO(reference=Old(seed=0))(Models(TINY.build(seed=0), {Old(seed=0).address: TINY.build(seed=0)}), paired())
    assert float(found.total) / found.weight == pytest.approx(math.log(2), abs=1e-6)
    assert float(found.metrics["preferred"]) / found.weight == 0.5


PAIRS = [([1, 5, 9], [7, 8, 2], [4, 2]), ([1, 3], [6, 2], [6, 6, 5, 2]), ([1, 4, 4, 8], [3, 2], [9, 2])]
"""(prompt, better completion, worse one)"""


@pytest.mark.parametrize(("kind", "loss_type"), [(DPO, "sigmoid"), (IPO, "ipo")])
def test_as_trl_has_it(kind, loss_type, tmp_path):
    trl = pytest.importorskip("trl", reason="needs trl, the peer that the losses are compared with: pip install trl")
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    policy, before = TINY.build(seed=0), TINY.build(seed=1)
    for name, model in (("policy", policy), ("before", before)):
        save_hub(model, TINY, tmp_path / name)
    peers = [AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32) for name in ("policy", "before")]
    words = Tokenizer(WordLevel({str(i): i for i in range(32)}, "0"))
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "out"), beta=0.2, loss_type=loss_type, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
        disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=peers[0].eval(), ref_model=peers[1], args=arguments,
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="2"),
        train_dataset=Dataset.from_list([{"prompt": "1", "chosen": "3", "rejected": "4"}]),
    )  # fmt: skip
    documents = [prompt + (better, worse)[side] for side in (0, 1) for prompt, better, worse in PAIRS]
    prompts = [len(prompt) for prompt, _, _ in PAIRS] * 2
    time = max(map(len, documents))
    ids = torch.tensor([one + [0] * (time - len(one)) for one in documents])
    place = torch.arange(time)
    real = place < torch.tensor([len(one) for one in documents])[:, None]
    completion = real & (place >= torch.tensor(prompts)[:, None])
    inputs = {"input_ids": ids, "attention_mask": real.long(), "completion_mask": completion.long()}
    theirs = trainer.compute_loss(trainer.model.eval(), inputs)

    tokens, targets, weight = (torch.cat(one.chunk(2), 1) for one in (ids, ids.roll(-1, 1), completion.roll(-1, 1).float()))
    segments = torch.cat([1 * real[:3], 2 * real[3:]], 1)
    segments = torch.where(segments == 0, segments.cummax(1).values, segments)  # what pads the first side counts for nothing in it
    batch = Batch(tokens, targets, weight, SequenceLayout.packed(segments))
    objective = kind(reference=Old(seed=1), beta=0.2)
    (found,) = objective(Models(policy.eval(), {Old(seed=1).address: before.eval()}), batch)
    assert float(found.total / found.weight) == pytest.approx(float(theirs), abs=1e-6)
