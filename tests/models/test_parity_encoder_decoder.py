"""Every named encoder–decoder beside transformers, on the same random weights: the laws of `test_parity.py`, for passages and texts."""

from __future__ import annotations

import pytest
import torch
from tests.models import test_parity
from tests.models.cases import ENCODER_DECODER_CASES
from tests.models.test_parity import close, gradients_are_equal, theirs_of, tokens_of

from bloomery.core.config import flatten
from bloomery.data.batch import Batch
from bloomery.models import CausalModel, HubConfig, Model, config_from_plain, load_hub, read_model, write_model
from bloomery.models.checkpoint import whole_config
from bloomery.nn import Linear, Passage, SequenceLayout, Use
from bloomery.objectives import CausalLM, Models

pytest.importorskip("transformers", reason="parity needs the transformers library")
every_family = pytest.mark.parametrize("config", ENCODER_DECODER_CASES.values(), ids=ENCODER_DECODER_CASES.keys())


def random_model(config: HubConfig) -> Model:
    """With queries as small as a family needs that does not scale its scores: else one key takes all, and float32 rounds it to chance."""
    model = test_parity.random_model(config)
    for module in model.modules():
        if isinstance(module, Linear) and module.uses[0] is Use.QUERY:
            module.weight.data[: module.heights[0]] *= 0.4
    return model


def passage_of(config, rows: int = 2, time: int = 27) -> Passage:
    ids = torch.randint(5, config.vocab_size, (rows, time), generator=torch.Generator().manual_seed(7))
    return Passage(ids, SequenceLayout.rows(rows, time, causal=False))


@every_family
def test_logits_are_theirs(config, tmp_path):
    model, ids, passage = random_model(config), tokens_of(config), passage_of(config)
    theirs = theirs_of(model, config, tmp_path)
    with torch.no_grad():
        ours = model(ids, SequenceLayout.rows(*ids.shape), passage=passage)
        close(ours, theirs(input_ids=passage.tokens, decoder_input_ids=ids).logits, config)


@every_family
def test_padded_rows_are_theirs(config, tmp_path):
    model, ids, passage = random_model(config), tokens_of(config), passage_of(config)
    theirs = theirs_of(model, config, tmp_path)
    real = (torch.arange(33) < torch.tensor((33, 20))[:, None]).long()
    real_passage = (torch.arange(27) < torch.tensor((11, 27))[:, None]).long()
    padded = Passage(passage.tokens * real_passage, SequenceLayout.packed(real_passage, causal=False))
    with torch.no_grad():
        ours = model(ids * real, SequenceLayout.packed(real), passage=padded)
        text = {"decoder_input_ids": ids * real, "decoder_attention_mask": real}
        their_logits = theirs(input_ids=padded.tokens, attention_mask=real_passage, **text).logits
    assert ours.isfinite().all()
    for row, n in enumerate((33, 20)):
        close(ours[row, :n], their_logits[row, :n], config)


@every_family
def test_packed_pairs_are_each_as_theirs_alone(config, tmp_path):
    model, ids, passage = random_model(config), tokens_of(config), passage_of(config)
    theirs = theirs_of(model, config, tmp_path)
    segments = torch.tensor([[1] * 9 + [2] * 19 + [3] * 5, [1] * 15 + [2] * 14 + [0] * 4])
    read = torch.tensor([[1] * 12 + [2] * 3 + [3] * 8 + [0] * 4, [1] * 7 + [2] * 20])
    packed = Passage(passage.tokens, SequenceLayout.packed(read, causal=False))
    with torch.no_grad():
        ours = model(ids, SequenceLayout.packed(segments), passage=packed)
        for row, document in ((0, 1), (0, 2), (0, 3), (1, 1), (1, 2)):
            text, source = segments[row] == document, read[row] == document
            alone = theirs(input_ids=passage.tokens[row, source][None], decoder_input_ids=ids[row, text][None]).logits[0]
            close(ours[row, text], alone, config)


@every_family
@pytest.mark.parametrize("pieces", [[1] * 33, [5, 7, 20, 1], [32, 1]], ids=("one by one", "in pieces", "the last alone"))
def test_cached_logits_are_theirs(config, pieces, tmp_path):
    model, ids, passage = random_model(config), tokens_of(config), passage_of(config)
    theirs = theirs_of(model, config, tmp_path)
    real = (torch.arange(27) < torch.tensor((11, 27))[:, None]).long()
    given: Passage | None = Passage(passage.tokens, SequenceLayout.packed(real, causal=False))
    assert isinstance(model, CausalModel)
    cache, read, start = model.new_cache(*ids.shape), [], 0
    with torch.no_grad():
        for n in pieces:
            layout = SequenceLayout(torch.arange(start, start + n).expand(2, n))
            read.append(model(ids[:, start : start + n], layout, cache, given))
            start, given = start + n, None  # the cache has it from now on
        close(torch.cat(read, 1), theirs(input_ids=passage.tokens, attention_mask=real, decoder_input_ids=ids).logits, config)


@every_family
def test_loss_and_gradients_are_theirs(config, tmp_path):
    model, ids, passage = random_model(config), tokens_of(config), passage_of(config)
    theirs = theirs_of(model, config, tmp_path)
    targets = ids.roll(-1, 1)
    weight = (torch.rand(ids.shape, generator=torch.Generator().manual_seed(3)) < 0.7).float()
    (term,) = CausalLM()(Models(model), Batch(ids, targets, weight, SequenceLayout.rows(*ids.shape), passage=passage))
    loss = term.total / term.weight
    their_loss = theirs(input_ids=passage.tokens, decoder_input_ids=ids, labels=targets.masked_fill(weight == 0, -100)).loss
    torch.testing.assert_close(loss, their_loss, atol=1e-5, rtol=0)
    loss.backward()
    their_loss.backward()
    gradients_are_equal(model, config, theirs, tmp_path)


@every_family
def test_out_through_transformers_and_in_again_is_exact(config, tmp_path):
    model = random_model(config)
    theirs_of(model, config, tmp_path / "ours").save_pretrained(tmp_path / "theirs", safe_serialization=True)
    read, back = load_hub(tmp_path / "theirs")
    assert read.replace(init=config.init) == config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


@every_family
def test_its_own_folder_is_read_back(config, tmp_path):
    model = random_model(config)
    write_model(tmp_path, config, model)
    read, back = read_model(tmp_path)
    assert read == config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


@every_family
def test_parameters_are_as_many_as_theirs(config, tmp_path):
    model = random_model(config)
    assert config.n_params == sum(p.numel() for p in model.parameters()) == theirs_of(model, config, tmp_path).num_parameters()


@every_family
def test_its_config_is_read_back_from_plain_data(config):
    assert config_from_plain(whole_config(config)) == config
    assert flatten(config_from_plain(config.identity()).identity()) == flatten(config.identity())
