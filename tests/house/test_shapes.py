"""Shapes in annotations are held to in tests; what names none runs as it is."""

import pytest
import torch
from jaxtyping import TypeCheckError

from bloomery.data import Batch
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.norms import RMSNorm, RMSNormConfig


def test_what_is_not_as_annotated_is_refused():
    with pytest.raises(TypeCheckError):
        RMSNormConfig().build(8)(torch.zeros(8, dtype=torch.long))


def test_fields_that_do_not_go_together_are_refused():
    tokens, weight = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3)
    layout = SequenceLayout(positions=tokens)
    Batch(tokens=tokens, targets=tokens, loss_weight=weight, layout=layout)
    with pytest.raises(TypeCheckError):
        Batch(tokens=tokens, targets=tokens[:, :2], loss_weight=weight, layout=layout)


def test_functions_without_shapes_are_left_alone():
    assert hasattr(RMSNorm.forward, "__wrapped__")
    assert not hasattr(RMSNormConfig.build, "__wrapped__")
