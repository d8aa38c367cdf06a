"""A step that is compiled says what its model says, at any number of rows and however far they are; what it cannot do is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError
from bloomery.generate import CompiledStep
from bloomery.models import AdaptedConfig, LlamaConfig, T5Config, TransformerConfig
from bloomery.nn import Mamba2Config
from bloomery.nn.adapters import PrefixTuning

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [
    ("eager", "1"),  # runs what was traced as it is
    pytest.param(("inductor",), marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
], ids=" ".join)  # fmt: skip
def test_a_compiled_step_says_what_the_model_says(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tests.generate.steps", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": "src:.", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("config", [
    TransformerConfig(vocab_size=48, d_model=16, n_layers=1, mixers=(Mamba2Config(head_dim=8, d_state=8),), feed_forwards=(None,)),
    AdaptedConfig(base=LlamaConfig(vocab_size=48, d_model=16, n_layers=1, n_heads=2), adapter=PrefixTuning(n_tokens=3)),
    T5Config(vocab_size=48, d_model=16, n_layers=1, n_heads=2),
], ids=["states", "a prefix", "a passage"])  # fmt: skip
def test_what_keeps_more_than_places_of_its_text_is_refused(config):
    with pytest.raises(ConfigError, match="CompiledStep is for decoders"):
        CompiledStep().applied(config.build(seed=0))
