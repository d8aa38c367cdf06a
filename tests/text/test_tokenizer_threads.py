"""Threads that ask one tokenizer at once, as requests to a server do, get what each alone gets."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from bloomery.text.tokenizer import Tokenizer

TEXTS = [" ".join(f"word{i * j} and{j}" for j in range(60)) for i in range(60)]  # each with words that no other has


@pytest.fixture
def impatient():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_that_learn_words_beside_each_other_get_their_own_ids(impatient):
    expected = [Tokenizer.train(TEXTS[:5], vocab_size=300).encode(text) for text in TEXTS]
    for _ in range(3):
        fresh = Tokenizer.train(TEXTS[:5], vocab_size=300)
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(fresh.encode, TEXTS)) == expected
