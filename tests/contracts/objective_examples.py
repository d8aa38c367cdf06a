"""A value, a model and a batch for every objective, for `test_objectives.py`; an objective that has none here is built from its defaults."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from bloomery.data.batch import Batch, Labels, Samples
from bloomery.data.tasks import WORTH
from bloomery.models import (
    BertConfig,
    ElectraConfig,
    ElectraPairConfig,
    LlamaConfig,
    MixtralConfig,
    ModelConfig,
    MultipleChoiceConfig,
    RegressionConfig,
    SequenceClassificationConfig,
    SimilarityConfig,
    TaskConfig,
    TokenClassificationConfig,
)
from bloomery.models.heads import ValueConfig
from bloomery.nn import LastPoolingConfig
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import (
    DPO,
    EWC,
    IPO,
    KTO,
    L2SP,
    ORPO,
    BradleyTerry,
    CausalLM,
    Combined,
    CoSENT,
    CosineSquaredError,
    Distil,
    DistilAttention,
    DistilHidden,
    DistilSimilarity,
    Entropy,
    Frozen,
    HeadCrossEntropy,
    HeadSquaredError,
    Importance,
    InfoNCE,
    JensenShannon,
    LoadBalance,
    Models,
    Objective,
    OverSequences,
    PlackettLuce,
    PolicyGradient,
    RankedDPO,
    ReferenceKL,
    ReplacedTokens,
    RouterZ,
    SimPO,
    ValueLoss,
)

TINY = LlamaConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16)
EXPERTS = MixtralConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16, n_experts=5, n_active=2)

ENCODER = BertConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16)
HEADS = TaskConfig(base=ENCODER, language_head=True, heads=(
    SequenceClassificationConfig(name="mood", n_labels=3), TokenClassificationConfig(name="kind", n_labels=4), RegressionConfig(name="stars"),
    MultipleChoiceConfig(name="answer", n_choices=3), SimilarityConfig(name="near"), SimilarityConfig(name="alike"),
))  # fmt: skip
WITH_REWARD = TaskConfig(base=TINY, heads=(RegressionConfig(name="stars", pooling=LastPoolingConfig()),))
WITH_VALUE = TaskConfig(base=TINY, language_head=True, heads=(ValueConfig(),))
SMALL = ElectraConfig(vocab_size=32, d_model=16, n_layers=1, n_heads=2, d_ff=24, max_seq_len=16, d_embedding=8)
PAIR = ElectraPairConfig(generator=SMALL, discriminator=SMALL.replace(n_layers=2, d_model=24))


def uneven(rows: int = 5, time: int = 12) -> Batch:
    """Rows of which ever more places count."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(32, (rows, time), generator=generator)
    weight = (torch.rand(rows, time, generator=generator) < torch.linspace(0.1, 1.0, rows)[:, None]).float()
    return Batch(tokens, tokens.roll(-1, 1), weight, SequenceLayout.rows(rows, time))


def packed() -> Batch:
    """The same rows, of which the first holds three documents and the last ones padding."""
    plain, segments = uneven(), torch.ones(5, 12, dtype=torch.long)
    segments[0], segments[3, 7:], segments[4, 2:] = torch.tensor([1] * 3 + [2] * 5 + [3] * 4), 0, 0
    return Batch(plain.tokens, plain.targets, plain.loss_weight * (segments > 0), SequenceLayout.packed(segments))


def masked() -> Batch:
    """The packed rows read both ways: a few tokens hidden (id 31), and what there is to sample by."""
    plain = packed()
    draws = torch.rand(plain.tokens.shape, generator=torch.Generator().manual_seed(4))
    weight = ((draws < 0.5) & (plain.layout.segments > 0)).float()
    tokens, layout = plain.tokens.masked_fill(weight > 0, 31), SequenceLayout.packed(plain.layout.segments, causal=False)
    return Batch(tokens, plain.tokens, weight, layout, draws=draws.flip(0))


def labelled() -> Batch:
    """The masked rows, whose documents and tokens have labels."""
    plain = masked()
    first, generator = plain.layout.positions == 0, torch.Generator().manual_seed(5)
    first &= plain.layout.segments > 0
    begins = first & (torch.arange(12) == 0) & (torch.arange(5) == 0)[:, None]  # of the row with several documents
    classes = torch.randint(3, plain.tokens.shape, generator=generator)
    labels = {
        "mood": Labels(classes, first.float()), "kind": Labels(classes + 1, (plain.layout.segments > 0).float()),
        "stars": Labels(classes + 0.5, 0.5 * first.float()), "answer": Labels(classes, (first & (torch.arange(12) == 0)).float()),
        "near": Labels(begins.long(), begins.float()), "alike": Labels(classes / 2, begins.float()),
    }  # fmt: skip
    return replace(plain, labels=labels)


def written() -> Batch:
    """Rows of which the policy has written ever longer stretches, with all that is known of such."""
    plain, generator = uneven(), torch.Generator().manual_seed(6)
    rows, time = plain.tokens.shape
    place = torch.arange(time)
    weight = ((place >= 3) & (place < 4 + 2 * torch.arange(rows)[:, None])).float()
    advantages, values, returns = (torch.randn(rows, time, generator=generator) * weight for _ in range(3))
    logprobs, reference = (-4 * torch.rand(rows, time, generator=generator) * weight for _ in range(2))
    numbers = torch.arange(rows)
    samples = Samples(logprobs, numbers // 2, numbers % 3, advantages, reference, values, returns)
    return replace(plain, loss_weight=weight, samples=samples)


def paired() -> Batch:
    """Rows of pairs of documents, of each of which the end counts: two pairs in the first row, one and some padding in the others."""
    plain, segments = uneven(), torch.ones(5, 12, dtype=torch.long)
    segments[0] = torch.tensor([1] * 2 + [2] * 4 + [3] * 3 + [4] * 3)
    for row in range(1, 5):
        segments[row] = torch.tensor([1] * (1 + row) + [2] * (9 - 2 * row) + [0] * (2 + row))
    last = torch.nn.functional.pad(segments[:, 1:] != segments[:, :-1], (0, 1), value=True)
    first = torch.nn.functional.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
    weight = ((segments > 0) & (first | (~last & (torch.arange(12) % 3 != 1)))).float()
    return Batch(plain.tokens, plain.targets, weight, SequenceLayout.packed(segments))


def ranked() -> Batch:
    """The paired rows, labelled: in the first a ranking of four, in the others one of two."""
    plain = paired()
    number = (plain.layout.positions == 0).cumsum(1).float()
    known = ((plain.loss_weight > 0) & (plain.layout.segments > 0)).float()
    return replace(plain, labels={WORTH: Labels(number * known, known)})


def judged() -> Batch:
    """The paired rows, of whose documents the first half is judged, and the others are prompts with what does not belong to them."""
    plain = ranked()
    number, known = plain.labels[WORTH].targets, plain.labels[WORTH].loss_weight
    known = known * (number <= number.amax(1, keepdim=True) / 2)
    return replace(plain, labels={WORTH: Labels(((number + torch.arange(5)[:, None]) % 2) * known, known)})


class Old(Frozen):
    """A model that losses look back at, for tests."""

    model: ModelConfig = TINY
    """Its sizes."""
    seed: int = 1
    """Of its weights."""

    @property
    def architecture(self) -> ModelConfig:
        return self.model


class OldMatters(Importance):
    """What mattered to it."""

    @property
    def measured_on(self) -> Frozen:
        return Old()


@dataclass(frozen=True, kw_only=True)
class Example:
    """An objective, a model that it fits, and a batch of five rows."""

    objective: Objective
    model: ModelConfig = TINY
    batch: Callable[[], Batch] = uneven

    def models(self) -> Models:
        """The model, and those that the objective looks at beside it."""
        olds = [one for one in self.objective.frozen() if isinstance(one, Old)]
        frozen = {one.address: one.model.build(one.seed).requires_grad_(requires_grad=False).eval() for one in olds}
        return Models(self.model.build(seed=0), frozen)


EXAMPLES: dict[type[Objective], Example] = {
    LoadBalance: Example(objective=LoadBalance(), model=EXPERTS, batch=packed),
    RouterZ: Example(objective=RouterZ(), model=EXPERTS, batch=packed),
    ReplacedTokens: Example(objective=ReplacedTokens(), model=PAIR, batch=masked),
    HeadCrossEntropy: Example(objective=HeadCrossEntropy(head="mood", label_smoothing=0.1), model=HEADS, batch=labelled),
    HeadSquaredError: Example(objective=HeadSquaredError(head="stars"), model=HEADS, batch=labelled),
    InfoNCE: Example(objective=InfoNCE(head="near"), model=HEADS, batch=labelled),
    CoSENT: Example(objective=CoSENT(head="alike"), model=HEADS, batch=labelled),
    CosineSquaredError: Example(objective=CosineSquaredError(head="alike"), model=HEADS, batch=labelled),
    EWC: Example(objective=EWC(fisher=OldMatters())),
    L2SP: Example(objective=L2SP(anchor=Old())),
    Distil: Example(objective=Distil(teacher=Old(), divergence=JensenShannon(), temperature=2.0)),
    DistilHidden: Example(objective=DistilHidden(teacher=Old(), layers=((0, 1), (-1, -1))), batch=packed),
    DistilSimilarity: Example(objective=DistilSimilarity(teacher=Old(model=TINY.replace(d_model=24))), batch=packed),
    DistilAttention: Example(objective=DistilAttention(teacher=Old()), batch=packed),
    PolicyGradient: Example(objective=PolicyGradient(over=OverSequences()), batch=written),
    Entropy: Example(objective=Entropy(temperature=0.7), batch=written),
    ReferenceKL: Example(objective=ReferenceKL(estimator="k3"), batch=written),
    ValueLoss: Example(objective=ValueLoss(), model=WITH_VALUE, batch=written),
    BradleyTerry: Example(objective=BradleyTerry(head="stars", margin=0.2, centring=0.1), model=WITH_REWARD, batch=paired),
    DPO: Example(objective=DPO(reference=Old(), label_smoothing=0.1), batch=paired),
    IPO: Example(objective=IPO(reference=Old()), batch=paired),
    SimPO: Example(objective=SimPO(), batch=paired),
    ORPO: Example(objective=ORPO(), batch=paired),
    PlackettLuce: Example(objective=PlackettLuce(head="stars"), model=WITH_REWARD, batch=ranked),
    RankedDPO: Example(objective=RankedDPO(reference=Old(), beta=0.5), batch=ranked),
    KTO: Example(objective=KTO(reference=Old(), good=1.5), batch=judged),
    Combined: Example(objective=0.5 * CausalLM() + 0.25 * CausalLM(z_loss=0.1)),
}


def example(kind: type[Objective]) -> Example:
    """That of an objective."""
    return EXAMPLES[kind] if kind in EXAMPLES else Example(objective=kind())
