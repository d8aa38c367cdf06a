"""A model that is served by the command: it listens where it says, and ends when it is told to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests import commands
from tests.web.house import MODEL, TOKENIZER

from bloomery.models import write_model
from bloomery.store import Store

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": f"{ROOT}/src:{ROOT}", "PATH": "/usr/bin:/bin", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A folder with a store that has a model."""
    folder = tmp_path_factory.mktemp("here")
    with Store(folder / "store").lease("Train/small-0123456789ab", on_wait=lambda: None):
        space = Store(folder / "store").workspace("Train/small-0123456789ab")
        write_model(space.path / "model", MODEL.config, MODEL)
        (space.path / "tokenizer").mkdir()
        TOKENIZER.save(space.path / "tokenizer" / "tokenizer.json")
        space.finish(stage="Train", name="small", key="0123456789ab", fields={}, inputs={}, summary={})
    return folder


def test_it_answers_until_it_is_told_to_end_and_finishes_what_it_has_begun(here: Path):
    server = subprocess.Popen(
        [sys.executable, "-m", "bloomery.cli", "serve", "Train/small", "--port", "0", "--name", "tiny", "--takes-weights"],
        cwd=here, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        port = int(re.search(r"127\.0\.0\.1:(\d+)/v1", server.stderr.readline())[1])
        client = HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("GET", "/v1/weights")
        assert json.load(client.getresponse()) == {"object": "weights", "version": ""}
        asked = {"model": "tiny", "prompt": "on", "max_tokens": 80, "stream": True, "logit_bias": {str(TOKENIZER.end): -100}}
        client.request("POST", "/v1/completions", json.dumps(asked))
        response = client.getresponse()
        assert response.status == 200
        first = response.read(20)
        server.send_signal(signal.SIGTERM)
        rest = first + response.read()
        assert rest.endswith(b"data: [DONE]\n\n")
        assert server.wait(30) == 0
        assert re.search(r"ending: what is under way.*\nended\n$", server.stderr.read())
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(("arguments", "keys", "said"), [
    (("--host", "0.0.0.0"), None, "give --key-file FILE"), (("--key-file", "keys"), "# none\n", "has no key in it"),
    (("--key-file", "keys"), "short\n", "can be guessed"), (("--takes-weights", "--weights", "compiled"), None, "leave it out"),
    (("--port", "1", "--host", "203.0.113.1", "--key-file", "keys"), "x" * 20, "listened at"),
])  # fmt: skip
def test_what_would_be_open_to_all_or_cannot_be_is_refused(here: Path, arguments, keys, said):
    if keys is not None:
        (here / "keys").write_text(keys)
    done = commands.bloomery("serve", "Train/small", *arguments, cwd=here, environment=ENVIRONMENT)
    assert 0 < done.returncode < 10, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
