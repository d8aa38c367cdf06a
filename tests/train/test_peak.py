"""The most memory at a time."""

import time

import pytest
import torch

from bloomery.train.peak import LOOK_S, Peak

SIZE = 200 << 20


def test_what_was_taken_for_a_while_is_counted_though_it_is_gone():
    with Peak("cpu") as peak:
        held = torch.ones(SIZE // 4)
        time.sleep(4 * LOOK_S)
        del held
    assert peak.counts == "resident"
    assert peak.bytes == pytest.approx(SIZE, rel=0.1)


def test_what_was_there_before_is_not_counted():
    held = torch.ones(SIZE // 4)
    with Peak("cpu") as peak:
        time.sleep(2 * LOOK_S)
    assert peak.bytes < SIZE / 10
    del held
