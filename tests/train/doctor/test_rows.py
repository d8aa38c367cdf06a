"""Mistakes in rows, each seeded, and each named by the check that is there for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bloomery.data import MaskedTokens, Mixture, Packed
from bloomery.data.source import Rows
from bloomery.data.tasks import Posed
from bloomery.train.doctor import Patient
from bloomery.train.doctor.order import epochs, pure_rows
from bloomery.train.doctor.targets import as_stored, conversations, loss_weights, shift
from bloomery.train.doctor.vocabulary import ids, unknown_tokens
from tests.train.doctor.patients import DECODER, TRAININGS, altered, found, patient

Change = Callable[[Rows, int], Rows]


@pytest.fixture
def decoder(store_folder: str) -> Patient:
    return patient(store_folder, TRAININGS["decoder"])


def changed(patient: Patient, change: Change) -> Patient:
    """The patient with other rows."""
    source = patient.source
    assert isinstance(source, Packed)
    return replace(patient, source=altered(source, change))


def each_changed(patient: Patient, change: Change) -> Patient:
    """The same of a mixture."""
    mixture = patient.source
    assert isinstance(mixture, Mixture)
    parts = {name: altered(source, change) for name, source in mixture.sources.items() if isinstance(source, Packed)}
    return replace(patient, source=Mixture(parts, dict.fromkeys(parts, 1)))


def unshifted(rows: Rows, first_row: int) -> Rows:
    return rows._replace(targets=rows.tokens)


def shifted_twice(rows: Rows, first_row: int) -> Rows:
    return rows._replace(targets=np.roll(rows.targets, -1, axis=1))


@pytest.mark.parametrize(("change", "words"), [(unshifted, "the token itself"), (shifted_twice, "the token after the next")])
def test_targets_that_are_shifted_wrongly_are_named(decoder: Patient, change: Change, words: str):
    wrong = changed(decoder, change)
    finding = found(wrong, shift, "shift of targets")
    assert finding.verdict == "fail"
    assert words in finding.remedy
    assert found(wrong, as_stored, "rows as stored").verdict == "fail"


def test_tokens_that_are_not_the_shards_are_named(decoder: Patient):
    wrong = changed(decoder, lambda rows, first: rows._replace(tokens=rows.tokens[:, ::-1].copy(), targets=rows.tokens[:, ::-1].copy()))
    assert found(wrong, as_stored, "rows as stored").verdict == "fail"


def test_a_mask_of_zeros_is_named(decoder: Patient):
    wrong = changed(decoder, lambda rows, first: rows._replace(loss_weight=np.zeros_like(rows.loss_weight)))
    finding = found(wrong, loss_weights, "loss weights")
    assert finding.verdict == "fail"
    assert "Nothing would be learnt" in finding.remedy


def test_padding_that_is_learnt_from_is_named(store_folder: str):
    chat = patient(store_folder, TRAININGS["chat"])
    wrong = each_changed(chat, lambda rows, first: rows._replace(loss_weight=np.ones_like(rows.loss_weight)))
    assert found(chat, loss_weights, "padding").verdict == "pass"
    assert found(wrong, loss_weights, "padding").verdict == "fail"
    assert found(wrong, as_stored, "rows as stored").verdict == "fail"


@pytest.mark.parametrize("by", [-1, 1])
def test_a_mask_that_goes_with_the_wrong_token_is_named(store_folder: str, by: int):
    chat = patient(store_folder, TRAININGS["chat"])
    assert found(chat, conversations, "conversations").verdict == "pass"
    moved = each_changed(chat, lambda rows, first: rows._replace(loss_weight=np.roll(rows.loss_weight, by, axis=1)))
    finding = found(moved, conversations, "conversations")
    assert finding.verdict == "fail"
    assert "one place on" in finding.remedy


def test_conversations_that_say_something_else_are_named(store_folder: str):
    chat = patient(store_folder, TRAININGS["chat"])
    other = replace(chat, said={id: ["something else"] * len(said) for id, said in chat.said.items()})
    assert found(other, conversations, "conversations").verdict == "fail"


def test_tokens_that_are_not_hidden_are_named(store_folder: str):
    open_ = patient(store_folder, TRAININGS["encoder"].replace(task=MaskedTokens(keep=1.0, random=0.0)))
    assert found(open_, shift, "hidden tokens").verdict == "fail"


class Batchwise(Packed):
    """Rows in an order that depends on how many are read at once."""

    def rows(self, first_row: int, rows: int) -> Rows:
        *arrays, labels = super().rows(first_row, rows)
        return Rows(*(array[::-1].copy() for array in arrays), labels)


class Restless(Packed):
    """Rows that are others each time."""

    def rows(self, first_row: int, rows: int) -> Rows:
        self.asked = getattr(self, "asked", 0) + 1
        return super().rows(first_row + self.asked, rows)


@pytest.mark.parametrize(("kind", "words"), [(Batchwise, "one by one"), (Restless, "read twice")])
def test_rows_in_another_order_than_promised_are_named(decoder: Patient, kind: type[Packed], words: str):
    source = altered(decoder.source, lambda rows, first: rows)
    source.__class__ = kind
    finding = found(replace(decoder, source=source), pure_rows, "data order")
    assert finding.verdict == "fail"
    assert words in finding.figure


def test_another_seed_of_the_task_is_named(store_folder: str):
    encoder = patient(store_folder, TRAININGS["encoder"])
    source = encoder.source
    assert isinstance(source, Posed)
    again = Posed(source.source, source.task, time=source.time, seed=7, vocabulary=source.vocabulary)
    assert "built anew" in found(replace(encoder, again=lambda: again), pure_rows, "data order").figure


def test_an_epoch_that_leaves_documents_out_is_named(store_folder: str):
    encoder = patient(store_folder, TRAININGS["encoder"])
    (packed,) = encoder.corpora.values()
    order, packed.arrangement = packed.arrangement.order, packed.packing.arrange(packed.shards.lengths, packed.time, 0)
    packed.arrangement.order = lambda epoch: np.where(order(epoch) == 5, 6, order(epoch))
    finding = found(encoder, epochs, "epochs")
    assert finding.verdict == "fail"
    assert "lacks 1 of" in finding.figure
    assert "has 1 twice" in finding.figure


def test_ids_that_the_model_has_not_are_named(decoder: Patient):
    wrong = changed(decoder, lambda rows, first: rows._replace(tokens=rows.tokens + 400))
    assert found(wrong, ids, "ids").verdict == "fail"


def test_a_vocabulary_that_is_mostly_unused_is_named(store_folder: str):
    large = DECODER.replace(model=DECODER.model.replace(vocab_size=1000))
    finding = found(patient(store_folder, TRAININGS["decoder"].replace(init=large)), ids, "ids")
    assert finding.verdict == "warn"
    assert "would do" in finding.remedy


def test_text_that_the_tokenizer_spells_byte_by_byte_is_named(decoder: Patient):
    lone = [i for i, spelled in enumerate(decoder.tokenizer.token_bytes) if len(spelled) == 1 and spelled[0] >= 0x80]
    wrong = changed(decoder, lambda rows, first: rows._replace(tokens=np.full_like(rows.tokens, lone[0])))
    finding = found(wrong, unknown_tokens, "tokens")
    assert finding.verdict == "warn"
    assert "100.0% bytes" in finding.figure
