"""`bloomery coordinate-check` prints both tables, writes the plot, and tells what it cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bloomery.cli.main import cli
from bloomery.core.errors import ConfigError


def test_the_tables_and_the_plot(tmp_path: Path):
    arguments = ["coordinate-check", "--widths", "16,32", "--steps", "1", "--n-layers", "1", "--plot", str(tmp_path / "plot.svg")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert [word in done.output for word in ("standard:", "µP:", "block 0 mixer", "logits", "width^")] == [True] * 5
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(("widths", "words"), [("32", "at least two"), ("32,33", "a multiple of 8"), ("wide", "not a list of numbers")])
def test_widths_that_cannot_be_are_told(widths: str, words: str):
    result = CliRunner().invoke(cli, ["coordinate-check", "--widths", widths])
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)


def test_help_has_an_example():
    assert "Example: bloomery coordinate-check" in " ".join(CliRunner().invoke(cli, ["coordinate-check", "--help"]).output.split())
