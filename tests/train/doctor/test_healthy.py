"""Sound trainings have nothing to fear."""

from __future__ import annotations

import pytest

from bloomery.train.doctor import examine
from tests.train.doctor.patients import TRAININGS, patient

LONG = ("chat", "several_tasks")  # what they look like is that of the others, put together


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow if kind in LONG else ()) for kind in TRAININGS])
def test_a_sound_training_passes_every_check(store_folder: str, kind: str):
    findings = list(examine(patient(store_folder, TRAININGS[kind])))
    assert [str(finding) for finding in findings if finding.verdict != "pass"] == []
    looked = {finding.check for finding in findings}
    assert {"memory", "ids", "data order", "epochs", "rows as stored", "documents of a row", "initial loss", "gradients", "one batch"} <= looked
    assert ("future" in looked) == (kind != "encoder")
    assert ("passages of a row" in looked) == (kind == "encoder_decoder")
    assert ("conversations" in looked) == (kind == "chat")
