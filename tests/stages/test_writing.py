"""What a model that writes takes of memory is told before it is read."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.generate import Engine
from bloomery.models import BertConfig, LlamaConfig, write_model
from bloomery.stages.writing import longest_of, takes
from bloomery.store import Artifact, Store
from bloomery.web.server import Limits
from tests.web.ui.places import made

CONFIG = LlamaConfig(vocab_size=300, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=96)


def left(tmp_path, config) -> Artifact:
    store = Store(tmp_path)
    write_model(store.workspace("Train/model-1").path / "model", config, config.build(0))
    return made(store, "Train/model-1")


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_told_is_what_the_parts_take(tmp_path, tied):
    config = CONFIG.replace(tie_embeddings=tied)
    artifact, limits, model = left(tmp_path, config), Limits(rows=3, beams=2, remembers=50), config.build(0)
    told = takes(artifact, limits.places(longest_of(artifact)))
    assert told.weights == pytest.approx(sum(p.nbytes for p in model.parameters()), rel=0.05)  # and the names in the file
    assert told.again == (model.head.matrix.nbytes if tied else 0)
    engine = Engine(model, {0}, rows=3)
    held = sum(slots.nbytes for cache in (engine.room.view(3), engine.room.desk) for slots in cache.slots)
    assert told.place * (3 + 1) * 96 == held
    assert told.place * 2 * 2 * 96 == 2 * sum(slots.nbytes for slots in model.new_cache(2, 96).slots)
    assert told.total == told.weights + told.again + told.place * (4 * 96 + 50 + 4 * 96)
    assert "tokens" in str(told)


def test_a_pool_has_room_for_what_it_has_room_for():
    assert Limits(rows=9, pool=100, beams=1).places(40) == 100 + 80
    assert Limits(rows=1, capacity=20, beams=1, remembers=7).places(40) == 40 + 7 + 40


def test_what_cannot_write_is_refused(tmp_path):
    config = BertConfig(vocab_size=48, d_model=16, n_layers=1, n_heads=2, max_seq_len=16)
    with pytest.raises(ConfigError, match="cannot write text"):
        takes(left(tmp_path, config), 9)
