"""What a server answers, over real connections."""

from __future__ import annotations

import base64
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from bloomery.generate import Decoding, Frequency, Random, Writer
from bloomery.nn import SequenceLayout
from bloomery.text.chat import ChatTemplate
from bloomery.web.server import Limits
from tests.web.house import MODEL, TOKENIZER, House, house, wait_until

HELLO = [{"role": "user", "content": "hello"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


LETTERS = {str(token): 100 for token in TOKENIZER.encode("abcdef")}


def prompt_of(text: str) -> list[int]:
    return [TOKENIZER.begin, *TOKENIZER.encode(text)]


def events(there: House, path: str, **body):
    """The pieces of a stream."""
    status, content, response = there.post(path, stream=True, **body)
    assert (status, response.getheader("Content-Type")) == (200, "text/event-stream; charset=utf-8")
    lines = [line.removeprefix("data: ") for line in content.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_reply_is_what_a_writer_writes_with_the_same_seed(idle: House):
    status, said, _ = idle.post(CHAT, messages=HELLO, temperature=0.8, top_p=0.9, frequency_penalty=0.5, seed=5, max_tokens=12)
    prompt = ChatTemplate().render(HELLO, TOKENIZER, add_generation_prompt=True).ids
    decoding = Decoding(by=Random(temperature=0.8, top_p=0.9), rules=(Frequency(amount=0.5),), max_new_tokens=12)
    written = Writer(MODEL, TOKENIZER, decoding).write([prompt], [5])[0]
    assert status == 200
    assert said["object"] == "chat.completion"
    assert said["choices"] == [{
        "index": 0, "message": {"role": "assistant", "content": written.text, "refusal": None}, "logprobs": None,
        "finish_reason": "length" if written.ended == "length" else "stop",
    }]  # fmt: skip
    used = len(prompt), len(written.tokens)
    assert [said["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")] == [*used, sum(used)]


@pytest.mark.parametrize("body", [
    {"max_tokens": 20, "seed": 3}, {"max_tokens": 30, "seed": 4, "stop": ["a", "e"], "n": 3}, {"max_tokens": 9, "temperature": 0, "stop": "q"},
], ids=["one", "several with stops", "greedy"])  # fmt: skip
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_stream_says_the_same_in_pieces(idle: House, path, body):
    asked = body | ({"messages": HELLO} if path == CHAT else {"prompt": "hello"})
    whole = idle.post(path, **asked)[1]
    texts, ends = {}, {}
    pieces = events(idle, path, **asked, stream_options={"include_usage": True})
    assert pieces[-1]["choices"] == []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert pieces[-1]["usage"][name] == whole["usage"][name]
    for piece in pieces[:-1]:
        (choice,) = piece["choices"]
        texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content", "") if path == CHAT else choice["text"])
        if choice["finish_reason"]:
            ends[choice["index"]] = choice["finish_reason"]
    said = {one["index"]: one["message"]["content"] if path == CHAT else one["text"] for one in whole["choices"]}
    assert texts == said
    assert ends == {one["index"]: one["finish_reason"] for one in whole["choices"]}
    assert len(said) == body.get("n", 1)


def test_prompts_are_texts_or_ids_one_or_many(idle: House):
    ids = prompt_of("hello")
    many = idle.post(TEXT, prompt=["hello", "bye"], seed=1)[1]["choices"]
    assert [one["index"] for one in many] == [0, 1]
    assert many[0]["text"] == idle.post(TEXT, prompt=ids, seed=1)[1]["choices"][0]["text"]
    assert many[0]["text"] == idle.post(TEXT, prompt=[ids], seed=1)[1]["choices"][0]["text"]
    assert len({one["text"] for one in idle.post(TEXT, prompt="hello", seed=1, n=4)[1]["choices"]}) > 1


@pytest.mark.parametrize("max_tokens", [0, 1, 5])
def test_echo_tells_what_the_model_says_of_the_prompt(idle: House, max_tokens):
    ids = prompt_of("the prompt")
    said = idle.post(TEXT, prompt=ids, echo=True, logprobs=3, max_tokens=max_tokens, temperature=0, logit_bias=LETTERS)[1]["choices"][0]
    told, written = said["logprobs"], TOKENIZER.encode(said["text"].removeprefix(TOKENIZER.decode(ids)))
    assert said["text"].startswith(TOKENIZER.decode(ids))
    with torch.no_grad():
        whole = torch.tensor([[*ids, *written]])
        logprobs = MODEL(whole, SequenceLayout.rows(*whole.shape))[0].log_softmax(-1)
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    expected = [float(logprobs[i - 1, token]) for i, token in enumerate([*ids, *written]) if i]
    assert told["token_logprobs"][1 : whole.shape[1]] == pytest.approx(expected, abs=1e-5)
    for place in range(1, whole.shape[1]):
        assert max(told["top_logprobs"][place].values()) == pytest.approx(float(logprobs[place - 1, : TOKENIZER.vocab_size].max()), abs=1e-5)
        assert told["token_logprobs"][place] in told["top_logprobs"][place].values()
    assert len(told["tokens"]) == len(told["text_offset"]) == len(told["token_logprobs"]) == len(told["top_logprobs"])
    assert said["text"][told["text_offset"][-1] :].startswith(told["tokens"][-1]) or len(told["tokens"]) > whole.shape[1]


def test_a_reply_tells_logprobs_token_by_token(idle: House):
    content = idle.post(CHAT, messages=HELLO, logprobs=True, top_logprobs=2, max_tokens=6, seed=2)[1]["choices"][0]["logprobs"]["content"]
    assert content
    for one in content:
        assert bytes(one["bytes"]).decode(errors="replace") == one["token"] or one["token"].startswith("bytes:")
        assert len(one["top_logprobs"]) == 2
        assert one["top_logprobs"][0]["logprob"] >= max(one["logprob"], one["top_logprobs"][1]["logprob"])
    streamed = events(idle, CHAT, messages=HELLO, logprobs=True, top_logprobs=2, max_tokens=6, seed=2)
    again = [one for piece in streamed for one in (piece["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert [one["token"] for one in again] == [one["token"] for one in content]


@pytest.mark.parametrize(("held", "fits"), [
    ({"guided_choice": ["yes", "no"]}, lambda text: text in ("yes", "no")),
    ({"guided_regex": "[0-9]{3}-[ab]+x"}, lambda text: text[:3].isdigit()),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False,
    }}}}, lambda text: json.loads(text)["n"] in (1, 2)),
])  # fmt: skip
def test_a_reply_is_held_to_what_is_asked(idle: House, held, fits):
    pytest.importorskip("llguidance")
    for seed in range(5):
        said = idle.post(CHAT, messages=HELLO, temperature=1.5, seed=seed, max_tokens=60, **held)[1]["choices"][0]
        assert said["finish_reason"] == "length" or fits(said["message"]["content"])


def test_texts_become_vectors(idle: House):
    said = idle.post("/v1/embeddings", input=["hello", "hello", "something else"])[1]
    vectors = np.array([one["embedding"] for one in said["data"]])
    assert vectors.shape == (3, MODEL.config.d_model)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert vectors[0] == pytest.approx(vectors[1])
    assert float(vectors[0] @ vectors[2]) < 0.999
    packed = idle.post("/v1/embeddings", input="hello", encoding_format="base64")[1]["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), "<f4") == pytest.approx(vectors[0], abs=1e-6)


def test_models_and_health_are_told(idle: House):
    assert idle.call("GET", "/health")[:2] == (200, {"status": "ok"})
    (one,) = idle.call("GET", "/v1/models")[1]["data"]
    assert (one["id"], one["max_model_len"]) == ("small", 96)
    assert idle.call("GET", "/v1/models/small")[1] == one
    assert idle.call("GET", "/v1/models/other")[0] == 404


def test_metrics_count_what_was_done(idle: House):
    before = {name: idle.metric(f"bloomery_{name}_total") for name in ("prompt_tokens", "generated_tokens")}
    used = idle.post(TEXT, prompt="some prompt", seed=0, max_tokens=7)[1]["usage"]
    assert idle.metric("bloomery_prompt_tokens_total") - before["prompt_tokens"] == used["prompt_tokens"]
    assert idle.metric("bloomery_generated_tokens_total") - before["generated_tokens"] == used["completion_tokens"]
    assert idle.metric('bloomery_requests_total{path="/v1/completions",status="200"}') >= 1
    assert idle.metric("bloomery_time_to_first_token_seconds_count") >= 1


def test_the_next_turn_is_read_from_where_the_last_one_ended(idle: House):
    first = [{"role": "user", "content": "tell me of the sea"}]
    said = idle.post(CHAT, messages=first, seed=0, max_tokens=20)[1]["choices"][0]["message"]["content"]
    further = [*first, {"role": "assistant", "content": said or "x"}, {"role": "user", "content": "more"}]
    used = idle.post(CHAT, messages=further, seed=0, max_tokens=5)[1]["usage"]
    assert used["prompt_tokens_details"]["cached_tokens"] >= len(ChatTemplate().render(first, TOKENIZER, add_generation_prompt=True).ids)


def test_who_leaves_has_the_texts_dropped(idle: House):
    engine = idle.served.worker.engine
    for stream in (True, False):
        before = idle.metric("bloomery_cancelled_total")
        body = json.dumps({"model": "small", "prompt": "on and on", "max_tokens": 90, "n": 8, "stream": stream, "logit_bias": {
            str(TOKENIZER.end): -100,
        }}).encode()  # fmt: skip
        with socket.create_connection(("127.0.0.1", idle.port)) as client:
            head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            wait_until(lambda: engine.live > 0)  # one who left before it began could not be told from one who was never there
        wait_until(lambda: engine.live == engine.waiting == 0)
        assert idle.metric("bloomery_cancelled_total") > before


def test_keys_are_asked_for_where_there_are_some():
    with house(keys=("a-long-enough-key", "another-key-of-them")) as there:
        assert there.post(TEXT, prompt="x")[0] == 401
        for wrong in ("Bearer a-long-enough-ke", "Basic a-long-enough-key", "Bearer ", "a-long-enough-key", "Bearer é"):
            assert there.call("GET", "/v1/models", headers={"Authorization": wrong.encode("latin-1").decode("latin-1")})[0] == 401
        assert there.call("GET", "/v1/models", headers={"Authorization": "Bearer another-key-of-them"})[0] == 200
        assert there.call("GET", "/health")[0] == 200
        assert there.call("GET", "/metrics")[0] == 401


def test_more_than_can_wait_are_told_to_come_again(monkeypatch):
    goes_on = threading.Event()
    with house(Limits(rows=1, queued=1)) as there, ThreadPoolExecutor(1) as beside:
        step = there.served.worker.engine.step
        monkeypatch.setattr(there.served.worker.engine, "step", lambda: step() if goes_on.wait(30) else [])
        first = beside.submit(there.post, TEXT, prompt="x", n=2)
        wait_until(lambda: there.served.worker._taken == 2)
        status, said, response = there.post(TEXT, prompt="x")
        assert (status, said["error"]["code"], response.getheader("Retry-After")) == (429, "busy", "1")
        goes_on.set()
        assert first.result()[0] == 200
        wait_until(lambda: there.post(TEXT, prompt="x", n=2)[0] == 200)  # what was refused takes no place


def test_more_than_there_are_ever_places_for_are_refused_for_good():
    with house(Limits(rows=1, queued=1)) as there:
        status, said, _ = there.post(TEXT, prompt=["x", "y", "z"])
        assert (status, "3 prompts of n=1 texts are 3, and there are never places for more than 2" in said["error"]["message"]) == (400, True)


def test_what_takes_too_long_is_ended():
    with house(Limits(rows=1, seconds=0.02)) as there:
        endless = {"prompt": "x", "max_tokens": 90, "logit_bias": {str(TOKENIZER.end): -100}}
        assert there.post(TEXT, **endless)[0] == 408
        assert "took longer than" in str(there.post(TEXT, **endless, stream=True)[1])  # as an event, or before the stream has begun


def test_a_server_that_is_to_end_takes_no_more_and_finishes_what_it_has():
    with house() as there:
        there.served.worker.close()
        status, said, _ = there.post(TEXT, prompt="x")
        assert (status, said["error"]["code"]) == (503, "closing")


def test_pages_of_other_sites_are_not_answered(idle: House):
    assert idle.call("GET", "/v1/models", headers={"Host": "evil.example"})[0] == 403
    assert idle.call("GET", "/v1/models", headers={"Origin": "https://evil.example"})[0] == 403
    assert idle.call("GET", "/v1/models", headers={"Origin": "http://localhost:3000"})[0] == 200
