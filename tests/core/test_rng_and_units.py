import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.core.rng import derive_seed, numpy_rng, python_rng
from bloomery.core.units import bytes_of, count_of, human_bytes, human_count, human_seconds


def test_streams_are_the_same_on_every_machine():
    assert derive_seed(7, "order", 3) == 7156118471365269772
    assert python_rng("tales", 1).randrange(10**6) == python_rng("tales", 1).randrange(10**6)
    assert numpy_rng(1, "x").integers(10**9) == 221218922


@given(st.lists(st.text() | st.integers(), min_size=1), st.lists(st.text() | st.integers(), min_size=1))
def test_streams_with_different_names_differ(a, b):
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)


def test_a_number_is_not_its_text():
    assert derive_seed(1) != derive_seed("1")


def test_counts_bytes_and_seconds_read_well():
    assert [human_count(x) for x in (0, 999, 1234, 1_234_567, 6.9e9, 3.1e22)] == ["0", "999", "1.23k", "1.23M", "6.9B", "31Z"]
    assert [human_bytes(x) for x in (12, 1536, 3 * 2**30)] == ["12 B", "1.5 KiB", "3 GiB"]
    assert [human_seconds(x) for x in (0.0234, 3.21, 75.3, 3 * 3600 + 120)] == ["23ms", "3.2s", "1m15s", "3h02m"]


def test_counts_and_sizes_are_read_as_they_are_written():
    assert [count_of(text) for text in ("4096", "64k", "4M", "200B", "1.5T")] == [4096, 64e3, 4e6, 200e9, 1.5e12]
    assert [bytes_of(text) for text in ("512", "1KiB", "80GiB", "80G", "1.5TB")] == [512, 1024, 80 << 30, 80 << 30, 1.5 * (1 << 40)]
    for read, text in ((count_of, "many"), (bytes_of, "GiB")):
        with pytest.raises(ConfigError, match="is no number; write"):
            read(text)
