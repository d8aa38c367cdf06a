"""The real vLLM as the engine of rollouts: run where its `vllm` is on the PATH, on whatever it computes on.

    PATH=…/bin:$PATH pytest -m slow tests/train/test_vllm.py

On a CPU its version 0.32 goes on with the matrices that it has packed when it is told to read others; that is noticed, and fails the first of
these tests.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import DataError
from bloomery.generate import Random
from bloomery.models import LlamaConfig, save_hub
from bloomery.nn import FanInInit
from bloomery.store import write_json
from bloomery.train.engines import VLLMEngine
from tests.train.test_engines import ROWS, TOKENIZER, World, of_policy

POLICY = LlamaConfig(
    vocab_size=TOKENIZER.vocab_size, d_model=64, n_layers=2, n_heads=2, max_seq_len=128, init=FanInInit(gain=1.5, embedding=1.0),
)  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("vllm") is None, reason="vllm is not on the PATH")]


class Theirs:
    """A vLLM server, and where it is."""

    def __init__(self, folder: Path, mode: str, policy: LlamaConfig) -> None:
        ends = {"bos_token_id": TOKENIZER.begin, "eos_token_id": TOKENIZER.end, "pad_token_id": TOKENIZER.pad}
        save_hub(policy.build(77), policy, folder, ends)
        TOKENIZER.save(folder / "tokenizer.json")
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        command = [
            "vllm", "serve", str(folder), "--served-model-name", "policy", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
            "--enforce-eager", "--max-model-len", "128", "--logprobs-mode", mode,
        ]  # fmt: skip
        developers = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        self.log = (folder / "log.txt").open("w+")
        self.process = subprocess.Popen(command, env=os.environ | developers, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self, seconds: float = 240.0) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(self.url.removesuffix("/v1") + "/health", timeout=5).close()
                return
            except OSError:
                told = Path(self.log.name).read_text()[-3000:]
                assert self.process.poll() is None, told
                assert time.monotonic() < until, told
                time.sleep(0.5)

    def end(self) -> None:
        os.killpg(self.process.pid, 15)
        self.process.wait(60)
        self.log.close()


@pytest.fixture(scope="module", params=["processed", "raw"])
def theirs(tmp_path_factory, request):
    policy = POLICY if request.param == "raw" else POLICY.replace(vocab_size=POLICY.vocab_size + 4)  # ids that no token has
    server = Theirs(tmp_path_factory.mktemp("vllm"), f"{request.param}_logprobs", policy)
    try:
        server.wait()
        yield server, VLLMEngine(logprobs=request.param), policy
    finally:
        server.end()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("sampler", [Random(), Random(temperature=0.7, top_k=20)], ids=["plain", "cut"])
def test_vllm_writes_each_round_with_the_policy_as_it_is(tmp_path, theirs, sampler):
    server, engine, policy = theirs
    if engine.logprobs == "raw" and sampler != Random():
        pytest.skip("refused, as tests/train/test_engines.py has it")
    world = World(tmp_path, server, engine=engine, policy=policy, sampler=sampler)
    source = world.source()
    for step in range(3):
        batch = source.batch(step * ROWS, ROWS)
        drawn = batch.loss_weight > 0
        assert torch.allclose(batch.samples.logprobs[drawn], of_policy(world, batch, sampler)[drawn], atol=1e-3)
        print(f"step {step}: {source.figures(step * ROWS, ROWS)['apart']:.2e} nats apart, a token", file=sys.stderr)
        world.step()


@pytest.mark.timeout(400)
def test_vllm_that_does_not_take_the_weights_is_noticed(tmp_path, theirs, monkeypatch):
    server, engine, policy = theirs
    monkeypatch.setattr(VLLMEngine, "renew", lambda *_: None)
    monkeypatch.setattr(VLLMEngine, "version", lambda *_: None)
    with pytest.raises(DataError, match="it has other weights"):
        World(tmp_path, server, engine=engine, policy=policy.replace(init=FanInInit(gain=3.0))).source().batch(0, ROWS)
