"""Lines made to hang a filter are judged in bounded time: in a process of their own, with a time-out a hundred times what they take."""

import subprocess
import sys

import pytest

from bloomery.text.filters import (
    Bias,
    C4Quality,
    CodeQuality,
    FineWebQuality,
    GopherQuality,
    GopherRepetition,
    PersonalData,
    Suspicion,
    Toxicity,
)

SEEDS = (
    "a", "(", "@", "[", " ", "\\n", "漢", "7", "1.", "1 ", "a ", "+1", "1-(", "aaa@", "a.a@a.", "a@b.c", "ab:", "ab, ", "[[1]", "{{ ", "%(a",
    "Via Aa ", "Abcdefg-", "12 Ab Cd Ef Gh ", "GB82 WEST ", "4111 1111 1111 1112 ", "Aaaaaaastr. ", "1 Aa, ", "(at)", "a (at) a.", "PSC 1 ",
    "QUJD", "\\\\u00e9",
)  # fmt: skip
SCRIPT = """
from bloomery.text.documents import Document, to_batch
from bloomery.text import filters
for seed in {seeds!r}:
    seed = seed.replace("\\\\n", "\\n")
    filters.{name}()(to_batch([Document("d", seed * ({size} // len(seed)), "s")]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("filter", [
    Bias, C4Quality, CodeQuality, FineWebQuality, GopherQuality, GopherRepetition, PersonalData, Suspicion, Toxicity,
])  # fmt: skip
def test_a_megabyte_of_anything_ends(filter):
    script = SCRIPT.format(seeds=SEEDS, name=filter.__name__, size=1_000_000)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=170)


class Counting(str):
    """A text that counts how much of it is looked at."""

    looked = 0

    def __getitem__(self, place):
        part = super().__getitem__(place)
        Counting.looked += len(part)
        return part


@pytest.mark.parametrize("seed", SEEDS)
def test_checks_behind_patterns_look_at_little(seed):
    looked = []
    for size in (20_000, 40_000):
        Counting.looked = 0
        PersonalData().find(Counting(seed * (size // len(seed))))
        looked.append(Counting.looked)
    assert looked[1] <= 2.2 * looked[0] + 1000
