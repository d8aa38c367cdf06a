"""Token shards: what is written is read back, from any place; what is torn or changed is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.corpora import make_shards

from bloomery.core.errors import ArtifactError, DataError
from bloomery.data.shards import Encoded, TokenShards, token_dtype, write_index, write_shard, written_shard
from bloomery.store import Artifact, Store

LENGTHS = [5, 1, 9, 3, 7, 2, 6]


def finished(root: Path, **options) -> Artifact:
    """The shards as a finished artifact of a store."""
    workspace = Store(root).workspace("Tokenize/test-0")
    make_shards(workspace.path, LENGTHS, per_shard=3, **options)
    return workspace.finish(stage="Tokenize", name="test", key="0", fields={}, inputs={}, summary={})


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=20), per_shard=st.integers(1, 6), data=st.data())
def test_any_range_of_any_document_reads_back(tmp_path_factory, lengths, per_shard, data):
    shards = make_shards(tmp_path_factory.mktemp("shards"), lengths, per_shard=per_shard, masked=True)
    starts = np.cumsum([0, *lengths])
    assert shards.lengths.tolist() == lengths
    assert shards.tokens == sum(lengths)
    assert shards.bytes == sum(3 * n + i for i, n in enumerate(lengths))
    document = data.draw(st.integers(0, len(lengths) - 1))
    start = data.draw(st.integers(0, lengths[document]))
    stop = data.draw(st.integers(start, lengths[document]))
    expected = np.arange(10 + starts[document] + start, 10 + starts[document] + stop)
    assert shards.id(document) == f"doc-{document}"
    assert shards.document(document, start, stop).tolist() == expected.tolist()
    assert shards.mask(document, start, stop).tolist() == (expected * 7919 % 5 < 3).astype(int).tolist()
    tokens, mask = shards.gather(*(np.array([x, 0]) for x in (document,)), *(np.array(x) for x in ([start, 0], [stop - start, 1])))
    assert tokens.tolist() == [*expected.tolist(), 10]
    assert mask.tolist() == [*shards.mask(document, start, stop).tolist(), *shards.mask(0, 0, 1).tolist()]


def test_small_vocabularies_take_two_bytes_and_large_ones_four(tmp_path):
    assert token_dtype(1 << 16).itemsize == 2
    assert token_dtype((1 << 16) + 1).itemsize == 4
    counts = write_shard(tmp_path, 0, [Encoded("a", np.array([0, 65535]), 2)], vocab_size=1 << 16)
    assert counts.tokens == 2
    assert (tmp_path / "tokens-00000.bin").read_bytes() == b"\x00\x00\xff\xff"


def test_shards_without_masks_learn_everything(tmp_path):
    shards = make_shards(tmp_path, LENGTHS)
    assert not list(tmp_path.glob("mask-*"))
    assert shards.mask(2).tolist() == [1] * 9
    assert shards.mask(2, 4, 6).tolist() == [1, 1]


@pytest.mark.parametrize("name", ["tokens-00001.bin", "mask-00000.bin", "documents-00001.arrow", "shards.json"])
def test_one_flipped_byte_is_found_and_named(tmp_path, name):
    artifact = finished(tmp_path, masked=True)
    TokenShards.open(artifact)
    path = artifact.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{name} does not have the checksum.*delete the folder"):
        TokenShards.open(artifact)


@pytest.mark.parametrize("name", ["tokens-00001.bin", "mask-00000.bin", "documents-00001.arrow"])
@pytest.mark.parametrize("keep", [0, -1])
def test_torn_or_missing_files_are_found_and_named(tmp_path, name, keep):
    make_shards(tmp_path, LENGTHS, per_shard=3, masked=True)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=f"{name}.*delete the folder"):
        TokenShards(tmp_path)
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{name}.*delete the folder"):
        TokenShards(tmp_path)


def test_table_of_another_shard_is_found(tmp_path):
    make_shards(tmp_path, LENGTHS, per_shard=3)
    (tmp_path / "documents-00001.arrow").write_bytes((tmp_path / "documents-00000.arrow").read_bytes())
    with pytest.raises(ArtifactError, match=r"documents-00001\.arrow does not count"):
        TokenShards(tmp_path)


def test_an_unfinished_shard_is_not_taken_for_written(tmp_path):
    def interrupted():
        yield Encoded("a", np.array([1, 2]), 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, 0, interrupted(), vocab_size=8)
    assert written_shard(tmp_path, 0) is None
    counts = write_shard(tmp_path, 0, [Encoded("a", np.array([1, 2]), 2)], vocab_size=8)
    assert written_shard(tmp_path, 0) == counts


@pytest.mark.parametrize(
    ("document", "masked", "why"),
    [
        (Encoded("x", np.array([], int), 0), False, "'x' has no tokens"),
        (Encoded("x", np.array([1, 8]), 2), False, "'x' has token ids outside the vocabulary of 8"),
        (Encoded("x", np.array([-1]), 2), False, "'x' has token ids outside the vocabulary of 8"),
        (Encoded("x", np.array([1, 2]), 2), True, "'x' has no mask where its shard needs one of 2"),
        (Encoded("x", np.array([1, 2]), 2, np.array([1])), True, "'x' has a mask of 1 places"),
        (Encoded("x", np.array([1, 2]), 2, np.array([1, 0])), False, "needs none"),
    ],
)
def test_documents_that_cannot_be_stored_are_refused_by_id(tmp_path, document, masked, why):
    with pytest.raises(DataError, match=why):
        write_shard(tmp_path, 0, [document], vocab_size=8, masked=masked)


def test_empty_shards_are_allowed_among_others(tmp_path):
    counts = [write_shard(tmp_path, 0, [], vocab_size=8), write_shard(tmp_path, 1, [Encoded("a", np.array([3]), 1)], vocab_size=8)]
    write_index(tmp_path, counts, vocab_size=8, pad=0)
    shards = TokenShards(tmp_path)
    assert len(shards) == 1
    assert shards.id(0) == "a"
    assert shards.gather(np.array([0]), np.array([0]), np.array([1]))[0].tolist() == [3]
