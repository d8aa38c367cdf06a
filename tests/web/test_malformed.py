"""Whatever is sent, the server says in one sentence what is wrong with it, and goes on."""

from __future__ import annotations

import json
import random
import socket

import pytest

from bloomery.web.bodies import ChatBody, CompletionBody, EmbeddingBody
from bloomery.web.server import Limits
from tests.web.house import House, house

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
FIELDS_OF_BODIES = {name for kind in (ChatBody, CompletionBody, EmbeddingBody) for name in kind.model_fields}
GOOD = {
    "/v1/chat/completions": {"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2},
    "/v1/completions": {"model": "small", "prompt": "hello", "max_tokens": 2},
    "/v1/embeddings": {"model": "small", "input": "hello"},
}
ODD = (
    None, True, -1, 0, 10**30, 1.5, float("nan"), float("inf"), "", "x", "\ud800", "\x00", [], [[]], [None], {}, {"a": 1}, ["x", 3], [[1], "x"],
    -(10**18), [10**9], [[0, 279], [280]], "é" * 3000, 2, 0.5, "never",
)  # fmt: skip
FIELDS = (
    "model", "messages", "prompt", "input", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "n", "seed",
    "stop", "stream", "stream_options", "logprobs", "top_logprobs", "echo", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "logit_bias", "response_format", "guided_choice", "guided_regex", "guided_json", "typical_p", "do_sample", "num_beams", "use_beam_search",
    "length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty", "penalty_alpha", "dola_layers", "dola_relative_top",
    "no_repeat_ngram_size", "no_repeat_sentences", "return_token_ids", "logprobs_mode",
    "tools", "functions", "suffix", "best_of", "encoding_format", "nonsense",
)  # fmt: skip


def test_every_field_is_tried():
    assert set(FIELDS) >= FIELDS_OF_BODIES


@pytest.mark.parametrize(("path", "changes", "said"), [
    ("/v1/completions", {"max_tokens": -1}, "max_tokens"), ("/v1/completions", {"temperature": "hot"}, "temperature"),
    ("/v1/completions", {"top_k": 1.5}, "top_k"), ("/v1/completions", {"prompt": []}, "prompt is empty"),
    ("/v1/completions", {"prompt": [1, 10_000]}, "knows 0 to"), ("/v1/completions", {"prompt": "x" * 200}, "shorten it"),
    ("/v1/completions", {"suffix": "x"}, "suffix"), ("/v1/completions", {"best_of": 3}, "best_of"),
    ("/v1/completions", {"logit_bias": {"a": 1}}, "'a' is no token id"), ("/v1/completions", {"logit_bias": {"9999": 1}}, "that there is not"),
    ("/v1/completions", {"stop": [""]}, "stop.0"), ("/v1/completions", {"guided_regex": "("}, "regex"),
    ("/v1/completions", {"guided_regex": "a", "guided_choice": ["a"]}, "give one of them"),
    ("/v1/chat/completions", {"messages": []}, "messages"), ("/v1/chat/completions", {"tools": [{}]}, "tools is not done here"),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": "x"}]}, "is due"),
    ("/v1/chat/completions", {"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
    ("/v1/chat/completions", {"top_logprobs": 2}, "set logprobs to true"),
    ("/v1/chat/completions", {"response_format": {"type": "yaml"}}, "response_format.type='yaml'"),
    ("/v1/chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}}, ""),
    ("/v1/chat/completions", {"stream": "maybe"}, "stream"), ("/v1/embeddings", {"input": [[-1]]}, "input 0"),
])  # fmt: skip
def test_what_is_wrong_is_named(idle: House, path, changes, said):
    status, answer, _ = idle.call("POST", path, GOOD[path] | changes)
    assert status == 400, answer
    assert said in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"


def test_another_model_other_paths_and_other_ways_are_refused(idle: House):
    assert idle.call("POST", PATHS[1], GOOD[PATHS[1]] | {"model": "other"})[0] == 404
    assert idle.call("POST", "/v1/nothing", {})[0] == 404
    assert idle.call("GET", PATHS[1])[0] == 405
    for body in (b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"model": NaN, "prompt": 1}'):
        status, answer, _ = idle.call("POST", PATHS[1], body)
        assert status == 400, body[:20]
        assert answer["error"]["message"]


def test_bodies_that_are_too_large_are_not_read():
    with house(Limits(rows=1, body_bytes=1000)) as there:
        assert there.call("POST", PATHS[1], {"model": "small", "prompt": "x" * 2000})[0] == 413
        body = iter([b"x" * 600] * 4)
        with socket.create_connection(("127.0.0.1", there.port)) as client:
            client.sendall(f"POST {PATHS[1]} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            for piece in body:
                client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            client.sendall(b"0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 413")


def spoilt(chance: random.Random) -> tuple[str, bytes]:
    """A request with something odd about it."""
    path = chance.choice(PATHS)
    body = dict(GOOD[path])
    for _ in range(chance.randint(1, 3)):
        body[chance.choice(FIELDS)] = chance.choice(ODD)
    if chance.random() < 0.2:
        body.pop(chance.choice(list(body)), None)
    data = json.dumps(body).encode()
    if chance.random() < 0.2:
        place = chance.randrange(len(data))
        data = data[:place] + bytes([chance.randrange(256)]) * chance.randint(0, 3) + data[place + chance.randint(0, 9) :]
    return path, data


def fuzz(there: House, count: int, seed: int) -> None:
    """None of many odd requests is answered with 5xx, each that is refused is told why, and the server answers as before."""
    chance = random.Random(seed)
    before = there.call("POST", PATHS[1], GOOD[PATHS[1]] | {"seed": 1})[1]["choices"]
    refused = 0
    for _ in range(count):
        path, data = spoilt(chance)
        status, answer, _ = there.call("POST", path, data)
        assert status < 500, (path, data[:300], answer)
        if status != 200:
            refused += 1
            assert status >= 400
            assert answer["error"]["message"], data[:300]
    assert refused > count / 2
    assert there.call("POST", PATHS[1], GOOD[PATHS[1]] | {"seed": 1})[1]["choices"] == before


def test_odd_requests_are_refused_with_a_reason(idle: House):
    fuzz(idle, 150, seed=0)


@pytest.mark.slow
def test_a_thousand_odd_requests_are_refused_with_a_reason(idle: House):
    fuzz(idle, 1000, seed=1)
